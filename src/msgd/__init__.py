"""msgd: choose and study the noise of stochastic gradient descent, in any training loop or in a laboratory.

The stochastic gradient is the gradient matrix G times a random weight vector w, divided by n; this package draws w.
`msgd.noise` has the laws of w. `msgd.Reweighter` applies them in any training loop, and `msgd.WeightedBatchSampler`
loads only the examples that a draw selects. `msgd.langevin` has the baselines that add noise to the gradient itself,
and `msgd.theory` the exact results for least squares. `msgd.GradientMatrix` is G as a linear operator, and
`msgd.diagnostics` measures the noise of the gradient.
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
    "weighted_outputs",
]

if TYPE_CHECKING:
    from msgd import diagnostics, gradients, langevin, noise, reweighting, statistics, theory
    from msgd.gradients import GradientMatrix
    from msgd.noise import Weights
    from msgd.reweighting import Reweighter, WeightedBatchSampler, per_sequence, weighted_mean, weighted_outputs

_PACKAGES = ("diagnostics", "gradients", "langevin", "noise", "reweighting", "statistics", "theory")
_HOME = {
    "GradientMatrix": "msgd.gradients",
    "Reweighter": "msgd.reweighting",
    "WeightedBatchSampler": "msgd.reweighting",
    "Weights": "msgd.noise",
    "per_sequence": "msgd.reweighting",
    "weighted_mean": "msgd.reweighting",
    "weighted_outputs": "msgd.reweighting",
}


def __getattr__(name: str) -> Any:
    # Import on first use, so that `msgd --help` does not have to import torch.
    if name in _PACKAGES:
        return import_module(f"msgd.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'msgd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
