"""What a stage is: params, declared dependencies, an output that appears at once."""
