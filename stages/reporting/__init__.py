"""What the report shows: plots and its page."""
