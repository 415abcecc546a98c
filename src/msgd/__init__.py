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
    "langevin",
    "noise",
    "per_sequence",
    "theory",
    "weighted_mean",
]

if TYPE_CHECKING:
    from msgd import diagnostics, langevin, noise, theory
    from msgd.batch_sampler import WeightedBatchSampler
    from msgd.gradient_matrix import GradientMatrix
    from msgd.noise import Weights
    from msgd.reweight import Reweighter, weighted_mean
    from msgd.sequences import per_sequence

_HOME = {
    "GradientMatrix": "msgd.gradient_matrix",
    "diagnostics": "msgd.diagnostics",
    "langevin": "msgd.langevin",
    "noise": "msgd.noise",
    "theory": "msgd.theory",
    "Weights": "msgd.noise",
    "WeightedBatchSampler": "msgd.batch_sampler",
    "Reweighter": "msgd.reweight",
    "per_sequence": "msgd.sequences",
    "weighted_mean": "msgd.reweight",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `msgd --help` does not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module 'msgd' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return module if name in ("diagnostics", "langevin", "noise", "theory") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
