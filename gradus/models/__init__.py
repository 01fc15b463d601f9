"""Commands that use or publish trained models, one file each; what a command does with its lines is in a file of its own beside it."""
