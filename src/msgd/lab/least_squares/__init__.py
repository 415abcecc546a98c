"""The experiment ``least-squares``: every law simulated over the exact curve of `msgd.theory.LeastSquares`."""
