"""The folder of an experiment: one module for each file in it."""
