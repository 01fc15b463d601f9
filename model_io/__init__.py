"""Models as folders: what stages and commands save and load. One file per kind of model."""
