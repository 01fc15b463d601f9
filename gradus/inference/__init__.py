"""Trained models at work: the file of a command's name has what that command does. Lines of standard input in, lines of output out."""
