"""Training of one run: the step, the loop, and data-parallel training with torchrun."""
