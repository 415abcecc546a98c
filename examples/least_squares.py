"""Exact expected losses of SGD on least squares, where the class of the noise does not matter.

python examples/least_squares.py [RUNS]
"""

import sys

import numpy as np

from msgd import noise
from msgd.theory import LeastSquares

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = X @ RNG.normal(size=5) + 0.5 * RNG.normal(size=60)
SHOWN = [0, 1, 2, 5, 10, 20, 40]


def simulate(law: noise.Law, lr: float, seed: int) -> list[float]:
    """Run SGD once and return the training losses at the steps shown."""
    theta, losses = np.zeros(5), []
    for step in range(SHOWN[-1] + 1):
        residuals = X @ theta - Y
        losses.append(0.5 * np.mean(residuals**2))
        w = law.draw(60, seed=seed, step=step).dense().numpy()
        theta = theta - lr * X.T @ (w * residuals) / 60  # the gradient G·w/n
    return [losses[step] for step in SHOWN]


def main(runs: int) -> None:
    """Print the exact expected losses under each law next to those of a simulation."""
    problem, sgd = LeastSquares(X, Y), noise.MiniBatch(4)
    b_eff = sgd.moments(60).effective_batch_size(60)
    lr = 0.25 * problem.stable_lr(sgd)
    print(f"learning rate {lr:.3f}, a quarter of the largest stable one; batches of 4 of 60 have b_eff = {b_eff:.3f}")
    print(row("expected loss at step", SHOWN, "8d"))
    for law in (sgd, noise.Cov(b_eff), noise.BayesianBootstrap(b_eff), noise.Fisher(b_eff)):
        exact = problem.expected_loss(law, lr=lr, steps=SHOWN[-1], start=np.zeros(5))
        losses = np.array([simulate(law, lr, seed) for seed in range(runs)])
        print(row(f"{type(law).__name__}, exact", exact[SHOWN], "8.4f"))
        print(row(f"  mean of {runs} runs", losses.mean(0), "8.4f"))
        print(row("  standard error", losses.std(0) / np.sqrt(runs), "8.4f"))
    print("The first three laws share α and β, and so one curve. Fisher has a different β: noise along the gradient.")


def row(name: str, values: object, form: str) -> str:
    """Format a row of numbers after a name."""
    return f"{name:26s}" + "".join(format(value, form) for value in values)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
