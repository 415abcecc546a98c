"""Write the table of large-batch.md: where SGD with independent and with shuffled batches settles. `make docs`.

Least squares with n = 200 examples in d = 5 dimensions: normal inputs and an intercept, and targets that are noise of
variance 1. From θ = 0 each of 200 trajectories runs for some epochs of 20 steps until it is stationary, and for 40 more
epochs, whose mean training loss above the minimum is shown, with the standard error over the trajectories.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from numpy.random import Generator

from msgd import noise
from msgd.lab.least_squares.simulate import Simulation, make_data, simulate_losses
from msgd.noise import Law, Moments, Sample
from msgd.noise.streams import NOISE
from msgd.theory import LeastSquares

PAGE = Path(__file__).with_name("large-batch.md")
PLACE = re.compile(r"(<!-- table: shuffled -->\n).*?(<!-- end -->)", re.DOTALL)
N, B, SMALL, STEPS = 200, 100, 10, 20
RATES = (0.05, 0.2)


class OnShuffled(Law):
    """The weights of a law on the batches of a shuffled loader, as `Reweighter` draws them.

    Args:
        B: size of the loader's batches.
        inner: the law of the weights within a batch.
    """

    def __init__(self, B: int, inner: Law) -> None:
        self.B, self.inner = B, inner

    @property
    def correlated(self) -> bool:
        """True: the batches of an epoch do not overlap."""
        return True

    def moments(self, n: int) -> Moments:
        """Marginal α and β (see `Law.moments`)."""
        return noise.Subsampled(self.B, self.inner).moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw a single step (see `Law.sample`)."""
        return noise.Subsampled(self.B, self.inner).sample(n, rng)

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Weight the batch of the step (see `Law.at_step`)."""
        batch = noise.Reshuffled(self.B).at_step(n, seed=seed, step=step, stream=stream)
        weights = self.inner.at_step(self.B, seed=seed, step=step, stream=stream).dense(self.B)
        return Sample(batch.index, batch.value * weights)


LAWS: dict[str, tuple[str, Law]] = {
    "independent batches of 10": ("MiniBatch(10)", noise.MiniBatch(SMALL)),
    "shuffled batches of 10": ("Reshuffled(10)", noise.Reshuffled(SMALL)),
    "shuffled batches of 100": ("Reshuffled(100)", noise.Reshuffled(B)),
    "shuffled batches of 100, weights drawn for each batch": ("Emulate(10)", OnShuffled(B, noise.Emulate(SMALL))),
    "shuffled batches of 100, weights drawn for the epoch": (
        "EmulateReshuffled(100, 10)",
        noise.EmulateReshuffled(B, SMALL),
    ),
}


def excess(name: str, law: Law, lr: float, trajectories: int = 200, epochs: int = 40) -> tuple[float, float]:
    """Simulate a law.

    Args:
        name: name of the method, which determines its random numbers.
        law: the law of the weights.
        lr: the learning rate.
        trajectories: number of trajectories.
        epochs: number of epochs that are averaged.

    Returns:
        The mean excess loss and its standard error, both in units of 10⁻³.
    """
    burn_in = max(5, round(4 / (lr * STEPS)))
    steps = (burn_in + epochs) * STEPS
    simulation = Simulation(name, law, N, 5, 0.0, 0.0, 1.0, 1.0, 0, lr, 0.0, steps, 1, 0)
    losses = simulate_losses(simulation, list(range(burn_in * STEPS, steps)), range(trajectories))
    found = 1000 * (losses.mean(1) - LeastSquares(*make_data(simulation)).minimum)
    return float(found.mean()), float(found.std(ddof=1)) / math.sqrt(trajectories)


def table() -> str:
    """Compute the table."""
    heads = ["batches", "law", *(f"excess loss · 10³ at η = {lr}" for lr in RATES)]
    lines = [heads, [":--", ":--", *["--:"] * len(RATES)]]
    for name, (text, law) in LAWS.items():
        cells = ["{:.2f} ± {:.2f}".format(*excess(name, law, lr)) for lr in RATES]
        lines.append([name, f"`{text}`", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the table into the page."""
    found = table()
    PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{found}{m[2]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
