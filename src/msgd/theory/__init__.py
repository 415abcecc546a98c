"""Where the noise of SGD can be followed exactly: least squares, by the law's α and β alone.

`LeastSquares` gives the mean and covariance of the parameters at every step, the expected loss, the stationary
covariance and the largest stable step size.
"""

from msgd.theory.least_squares import LeastSquares, ParameterMoments

__all__ = ["LeastSquares", "ParameterMoments"]
