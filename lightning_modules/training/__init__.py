"""What all trainings share: optimisation, losses, precision."""
