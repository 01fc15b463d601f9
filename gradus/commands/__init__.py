"""Commands that use or publish trained models, one file each, with options and help. What they do is in `inference` and `serving`."""
