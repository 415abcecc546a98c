"""The gradient matrix G, whose columns are the per-example gradients, and the covariance of the gradient noise.

`GradientMatrix` is G as a linear operator: G·w is one backward pass, Gᵀ·u one forward-mode pass. `Covariance` is C, the
empirical Fisher matrix F, or the covariance of the gradient noise of a law.
"""

from msgd.gradients.covariance import Covariance, mean_square, trace_estimate
from msgd.gradients.gradient_matrix import GradientMatrix
from msgd.gradients.per_example import LossFunction

__all__ = ["Covariance", "GradientMatrix", "LossFunction", "mean_square", "trace_estimate"]
