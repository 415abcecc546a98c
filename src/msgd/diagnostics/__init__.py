"""Measurements of the gradient noise (covariance, scale, tails) and of the sharpness of the loss.

`Covariance` is C, the empirical Fisher matrix or the noise covariance of a law, as an operator with trace, eigenpairs
and alignment with the Hessian. `simple_noise_scale` is tr C/‖ḡ‖², `NoiseScaleMeter` estimates it inside a training
loop, and `suggest_batch_size` derives the b of a law from it. `noise_along` draws the noise of a law along directions;
`gaussianity`, `excess_kurtosis`, `hill` and `block_index` characterise its distribution. `hessian_eigenvalues`,
`hessian_trace` and `loss_change` measure the sharpness of a minimum. `Probe` measures the noise at regular steps of any
training loop.
"""

from msgd.diagnostics.batch_size import Suggestion, suggest_batch_size
from msgd.diagnostics.gaussianity import Gaussianity, gaussianity
from msgd.diagnostics.noise_scale import NoiseScale, NoiseScaleMeter, curved_noise_scale, simple_noise_scale
from msgd.diagnostics.probe import Probe, ProbeRecord
from msgd.diagnostics.projections import gradients_along, noise_along, random_directions
from msgd.diagnostics.sharpness import hessian_eigenpairs, hessian_eigenvalues, hessian_trace, loss_change
from msgd.diagnostics.subspaces import subspace_cosines
from msgd.diagnostics.tails import block_index, excess_kurtosis, hill, hill_curve
from msgd.gradients.covariance import Covariance, mean_square, trace_estimate
from msgd.statistics.intervals import Estimate

__all__ = [
    "Covariance",
    "Estimate",
    "Gaussianity",
    "NoiseScale",
    "NoiseScaleMeter",
    "Probe",
    "ProbeRecord",
    "Suggestion",
    "block_index",
    "curved_noise_scale",
    "excess_kurtosis",
    "gaussianity",
    "gradients_along",
    "hessian_eigenpairs",
    "hessian_eigenvalues",
    "hessian_trace",
    "hill",
    "hill_curve",
    "loss_change",
    "mean_square",
    "noise_along",
    "random_directions",
    "simple_noise_scale",
    "subspace_cosines",
    "suggest_batch_size",
    "trace_estimate",
]
