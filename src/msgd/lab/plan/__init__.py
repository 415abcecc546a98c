"""The plan of an experiment: a recipe spelled out as runs."""
