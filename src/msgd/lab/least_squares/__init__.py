"""The experiment ``least-squares``: simulates every law, and compares it with `msgd.theory.LeastSquares`."""
