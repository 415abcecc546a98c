"""Training of one run: the step, the loop, and several processes that share it."""
