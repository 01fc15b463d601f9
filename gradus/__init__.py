"""The command line, and what the stages and the flows both need: where runs are tracked."""
