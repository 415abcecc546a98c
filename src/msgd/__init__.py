"""msgd: the noise of stochastic gradient descent, as a laboratory and as one line in a training loop.

The gradient of SGD is the gradient matrix G times a random weight vector w; this package draws w. See `msgd.noise`
for its laws, `msgd.Reweighter` for the seam into any training loop, and `msgd.WeightedBatchSampler` for a loop that
loads only the examples of a draw; `msgd.langevin` has the rivals, whose noise is added to the gradient, and
`msgd.theory` the exact answers for least squares. `msgd.GradientMatrix` is G itself, as a linear operator, and
`msgd.diagnostics` measures its noise.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "GradientMatrix",
    "Reweighter",
    "WeightedBatchSampler",
    "Weights",
    "__version__",
    "diagnostics",
    "gradients",
    "langevin",
    "noise",
    "per_sequence",
    "reweighting",
    "statistics",
    "theory",
    "weighted_mean",
]

if TYPE_CHECKING:
    from msgd import diagnostics, gradients, langevin, noise, reweighting, statistics, theory
    from msgd.gradients import GradientMatrix
    from msgd.noise import Weights
    from msgd.reweighting import Reweighter, WeightedBatchSampler, per_sequence, weighted_mean

_PACKAGES = ("diagnostics", "gradients", "langevin", "noise", "reweighting", "statistics", "theory")
_HOME = {
    "GradientMatrix": "msgd.gradients",
    "Reweighter": "msgd.reweighting",
    "WeightedBatchSampler": "msgd.reweighting",
    "Weights": "msgd.noise",
    "per_sequence": "msgd.reweighting",
    "weighted_mean": "msgd.reweighting",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `msgd --help` does not wait for torch.
    if name in _PACKAGES:
        return import_module(f"msgd.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'msgd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
