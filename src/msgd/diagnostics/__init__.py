"""What can be measured of the noise of a gradient: its covariance C and its kin, and its scale.

`Covariance` is C, the empirical Fisher matrix or the noise of a law, as an operator with trace, eigenpairs and
alignment with the Hessian; `simple_noise_scale` is tr C/‖ḡ‖², and `NoiseScaleMeter` measures it inside a training loop.
"""

from msgd.diagnostics.covariance import Covariance, mean_square, trace_estimate
from msgd.diagnostics.estimate import Estimate
from msgd.diagnostics.noise_scale import NoiseScale, NoiseScaleMeter, curved_noise_scale, simple_noise_scale
from msgd.diagnostics.subspaces import subspace_cosines

__all__ = [
    "Covariance",
    "Estimate",
    "NoiseScale",
    "NoiseScaleMeter",
    "curved_noise_scale",
    "mean_square",
    "simple_noise_scale",
    "subspace_cosines",
    "trace_estimate",
]
