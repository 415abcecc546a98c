"""Regression: Friedman's function #1 of ten inputs, of which five matter (Friedman 1991).

msgd needs at most four functions: data, network, loss and scores. Change them, and run the recipe again.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Part = tuple[NDArray[np.float64], NDArray[np.float64]]  # inputs and targets, with the examples along the first axis

SCALE = 10.0  # the network learns y/10: networks train best with targets of about one
VARIANCE = 24.8  # of y, its noise included

# Of an accuracy more is better. Of these scores less is:
LOWER_IS_BETTER = ["mae", "r2 loss"]


def data(seed: int) -> tuple[Part, Part]:
    """Return the training part and the test part; the seed is 0, unless the recipe varies the data."""
    rng = np.random.default_rng(seed)
    return _part(rng, 400), _part(rng, 1000)


def _part(rng: np.random.Generator, n: int) -> Part:
    x = rng.uniform(size=(n, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y += rng.normal(size=n)  # noise with standard deviation 1
    return x, y[:, None] / SCALE


def network() -> nn.Module:
    """Build the network; torch's generator has the seed of the run already."""
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one loss for each example, shape (batch,), and not their mean: the noise weights each loss."""
    return ((outputs - targets) ** 2).mean(1)


def scores(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return one value of each score for each example; the first score decides, and the recipe's margin is in its unit.

    The best possible "mae" is that of the noise, √(2/π) = 0.80. "r2 loss" is 1 − R², the part of the variance that is
    not explained.
    """
    error = SCALE * (outputs - targets)[:, 0]
    return {"mae": error.abs(), "r2 loss": error**2 / VARIANCE}
