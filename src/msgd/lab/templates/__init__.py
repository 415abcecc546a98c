"""The files that `msgd init` writes: for each kind of task ``KIND.py`` and ``KIND.toml``, and one README.md for all."""
