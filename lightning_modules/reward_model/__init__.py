"""The reward model of InstructGPT (Ouyang et al. 2022)."""
