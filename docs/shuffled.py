"""Write the tables of large-batch.md: where SGD with independent and with shuffled batches settles. `make docs`.

The first is least squares with n = 200 examples in d = 5 dimensions: normal inputs and an intercept, and targets that
are noise of variance 1. From θ = 0 each of 200 trajectories runs for some epochs of 20 steps until it is stationary,
and for 40 more epochs, whose mean training loss above the minimum is shown, with the standard error over the
trajectories.

The second is a perceptron of 40-100-100-10 on the n = 1000 examples of MNIST-1D, at lr 0.1 for 2000 steps, of which the
last 400 count. Means and standard errors are over 12 seeds.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import torch
from mnist1d.data import make_dataset
from numpy.random import Generator
from torch import nn
from torch.nn import functional as F

from msgd import noise, weighted_mean
from msgd.lab.least_squares.simulate import Simulation, make_data, simulate_losses
from msgd.noise import Law, Moments, Sample
from msgd.noise.streams import NOISE
from msgd.theory import LeastSquares

PAGE = Path(__file__).with_name("large-batch.md")
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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


def laws(B: int, b: int) -> dict[str, tuple[str, Law]]:
    """What is compared: its name, the law as text, and the law."""
    skewed = noise.Gamma(4 * b / B)
    return {
        f"independent batches of {b}": (f"MiniBatch({b})", noise.MiniBatch(b)),
        f"shuffled batches of {b}": (f"Reshuffled({b})", noise.Reshuffled(b)),
        f"shuffled batches of {B}": (f"Reshuffled({B})", noise.Reshuffled(B)),
        f"shuffled batches of {B}, weights drawn for each batch": (f"Emulate({b})", OnShuffled(B, noise.Emulate(b))),
        f"shuffled batches of {B}, weights drawn for the epoch": (
            f"EmulateReshuffled({B}, {b})",
            noise.EmulateReshuffled(B, b),
        ),
        "the same, skewed": (f"EmulateReshuffled({B}, {b}, {skewed!r})", noise.EmulateReshuffled(B, b, skewed)),
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


def network(law: Law, seeds: int = 12, steps: int = 2000) -> tuple[float, float, float, float]:
    """Train on MNIST-1D.

    Args:
        law: the law of the weights of the 1000 examples.
        seeds: number of runs.
        steps: number of steps.

    Returns:
        The mean training loss and its standard error, and the mean test accuracy in percent and its standard error.
    """
    made, found = make_dataset(), []
    x, y = torch.tensor(made["x"][:1000]).float(), torch.tensor(made["y"][:1000])
    unseen, classes = torch.tensor(made["x_test"]).float(), torch.tensor(made["y_test"])
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
        for step in range(steps):
            weights = law.draw(len(x), seed=seed, step=step)
            index = slice(None) if weights.index is None else weights.index
            optimizer.zero_grad()
            loss = weighted_mean(F.cross_entropy(model(x[index]), y[index], reduction="none"), weights)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step >= steps * 4 // 5 and step % 10 == 9:
                with torch.no_grad():
                    losses.append(float(F.cross_entropy(model(x), y)))
        accuracy = float((model(unseen).argmax(1) == classes).float().mean())
        found.append([sum(losses) / len(losses), 100 * accuracy])
    mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / math.sqrt(seeds)
    return float(mean[0]), float(error[0]), float(mean[1]), float(error[1])


def tables() -> dict[str, str]:
    """Compute the tables."""
    settled = [["batches", "law", *(f"excess loss · 10³ at η = {lr}" for lr in RATES)], [":--", ":--", "--:", "--:"]]
    for name, (text, law) in laws(B, SMALL).items():
        cells = ["{:.2f} ± {:.2f}".format(*excess(name, law, lr)) for lr in RATES]
        settled.append([name, f"`{text}`", *cells])
    trained = [["batches", "training loss", "test accuracy"], [":--", "--:", "--:"]]
    for name, (_, law) in laws(200, 20).items():
        loss, error, accuracy, spread = network(law)
        trained.append([name, f"{loss:.3f} ± {error:.3f}", f"{accuracy:.1f}% ± {spread:.1f}"])
    found = {"shuffled": settled, "network": trained}
    return {name: "".join(f"| {' | '.join(line)} |\n" for line in lines) for name, lines in found.items()}


def main() -> None:
    """Write the tables into the page."""
    found = tables()
    PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{found[m[2]]}{m[3]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
