"""Runs an experiment, from its recipe to its finished runs: data, tuning, jobs, workers."""
