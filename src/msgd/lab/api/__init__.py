"""The laboratory from Python: `compare` trains methods on a task, and `load` reads a folder."""
