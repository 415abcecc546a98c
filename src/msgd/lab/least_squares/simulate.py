"""Simulates many trajectories of SGD on least squares at a time, with weights drawn from msgd's laws."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.noise import Law, generator
from msgd.noise.streams import DATA, method_stream

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Simulation:
    """One method with all settings that determine its trajectories. The fields are the recipe's keys."""

    method: str
    law: Law
    n: int
    d: int
    intercept: float
    slopes: float
    condition: float
    noise: float
    data_seed: int
    lr: float
    momentum: float
    steps: int
    eval_every: int
    seed: int

    def identity(self) -> dict[str, Any]:
        """The settings that determine the trajectories as keys and values, ready for TOML."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {"law": repr(self.law)}


def planned_simulations(recipe: LeastSquaresRecipe) -> list[Simulation]:
    """Plan a recipe's simulations, one for each method."""
    shared = [field.name for field in dataclasses.fields(Simulation) if field.name not in ("method", "law")]
    values = {name: getattr(recipe, name) for name in shared}
    return [Simulation(method, recipe.law(method), **values) for method in recipe.methods]


def make_data(recipe: LeastSquaresRecipe | Simulation) -> tuple[Array, Array]:
    """Generate X, shape (n, d), and y, shape (n,), see `LeastSquaresRecipe`."""
    rng = generator(recipe.data_seed, 0, DATA)
    spread = np.sqrt(np.geomspace(1, 1 / recipe.condition, recipe.d - 1))
    X = np.column_stack([np.ones(recipe.n), rng.standard_normal((recipe.n, recipe.d - 1)) * spread])
    direction = rng.standard_normal(recipe.d - 1)
    slopes = recipe.slopes * direction / max(float(np.linalg.norm(direction)), 1e-300)
    y = recipe.intercept + X[:, 1:] @ slopes + recipe.noise * rng.standard_normal(recipe.n)
    return X, y


def simulate_losses(simulation: Simulation, recorded: list[int], trajectories: range) -> Array:
    """Simulate trajectories: ``v ← μ·v + G·w/n``, ``θ ← θ − η·v`` from θ = v = 0, G = (x_i·r_i), r = Xθ − y.

    The weights of trajectory j at a step are the law's own draw for the seed ``seed·2³² + j``, in float64.

    Args:
        simulation: the simulation of a method.
        recorded: the steps after which the loss is recorded.
        trajectories: the numbers j of the trajectories.

    Returns:
        Training losses, shape (trajectories, recorded steps); a loss that overflows is not finite. The losses do not
        depend on the number of threads.
    """
    s = simulation
    X, y = make_data(s)
    stream = method_stream(s.method)
    theta, velocity = np.zeros((2, len(trajectories), s.d))
    losses, record_at = [], set(recorded)
    # einsum adds in a fixed order; in BLAS the order depends on the number of threads.
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(s.steps + 1):
            residuals = np.einsum("td,nd->tn", theta, X) - y
            if step in record_at:
                losses.append(0.5 * (residuals**2).mean(1))
            if step < s.steps:
                w = np.array(
                    [
                        s.law.at_step(s.n, seed=s.seed * 2**32 + j, step=step, stream=stream).dense(s.n)
                        for j in trajectories
                    ]
                )
                velocity = s.momentum * velocity + np.einsum("tn,nd->td", w * residuals, X) / s.n
                theta = theta - s.lr * velocity
    return np.column_stack(losses)
