"""What can be measured of the noise of a gradient: its covariance C and its kin, and its scale.

`Covariance` is C, the empirical Fisher matrix or the noise of a law, as an operator with trace, eigenpairs and
alignment with the Hessian.
"""

from msgd.diagnostics.covariance import Covariance, mean_square, trace_estimate
from msgd.diagnostics.estimate import Estimate
from msgd.diagnostics.subspaces import subspace_cosines

__all__ = ["Covariance", "Estimate", "mean_square", "subspace_cosines", "trace_estimate"]
