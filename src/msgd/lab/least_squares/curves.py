"""The exact curves of a least-squares experiment."""

from __future__ import annotations

import numpy as np

from msgd.errors import UserError
from msgd.lab.least_squares.recipe import has_curve
from msgd.lab.least_squares.simulate import Array, Simulation
from msgd.theory import LeastSquares


def exact_curve(problem: LeastSquares, simulation: Simulation, steps: list[int]) -> Array | None:
    """Compute a method's expected loss.

    Args:
        problem: of the experiment.
        simulation: the method.
        steps: that are recorded.

    Returns:
        The expected loss at these steps; None where the theory has none.

    Raises:
        UserError: it overflows.
    """
    s = simulation
    if not has_curve(s.law, s.n):
        return None
    start = np.zeros(s.d)
    exact: Array = problem.expected_loss(s.law, lr=s.lr, steps=s.steps, start=start, momentum=s.momentum)[steps]
    if not np.isfinite(exact).all():
        raise UserError(f"lr: at {s.lr:g} the expected loss of {s.method} overflows; take a smaller one")
    return exact
