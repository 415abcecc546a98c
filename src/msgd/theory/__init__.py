"""Exact theory of SGD with random weights on least squares, which depends on the law only through α and β.

`LeastSquares` computes the mean and covariance of the parameters at every step, the expected loss, the stationary
covariance and the largest stable step size.
"""

from msgd.theory.least_squares import LeastSquares, ParameterMoments

__all__ = ["LeastSquares", "ParameterMoments"]
