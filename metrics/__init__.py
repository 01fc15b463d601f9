"""How good texts, rankings and labelers are: one file per metric or family of metrics."""
