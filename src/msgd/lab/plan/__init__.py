"""The plan of an experiment: all runs that a recipe describes, and their cost."""
