"""Whether a mean over trajectories lies on a curve: one band for all recorded steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from msgd.lab.errors import UserError
from msgd.lab.least_squares.simulate import Array, Simulation
from msgd.lab.recipes.least_squares import has_curve
from msgd.theory import LeastSquares

ROUNDING = 1e-10  #: of the exact loss: what a standard error is at least, for laws without noise


@dataclass(frozen=True)
class CurveTest:
    """Means over trajectories against one curve.

    Args:
        scores: z = (mean − exact)/standard error at each recorded step; None where the mean is not finite.
        largest: max |z| over the steps; None where a mean is not finite.
        step: where it is reached.
        half_width: the band's largest half-width over the steps, as a fraction of the exact loss; None likewise.
        on_curve: the mean is in the band at every step.
    """

    scores: list[float | None]
    largest: float | None
    step: int
    half_width: float | None
    on_curve: bool

    @property
    def verdict(self) -> str:
        """In words."""
        return "on the curve" if self.on_curve else "off the curve"


def critical_value(false_alarms: float, *, methods: int, steps: int) -> float:
    """Half-width of the band in standard errors, by Bonferroni over steps and methods.

    A mean over many trajectories is nearly normal. The losses of neighbouring steps are correlated, so false alarms are
    rarer than stated.

    Args:
        false_alarms: probability that any of the methods leaves its band at any step although it is on its curve.
        methods: number of methods.
        steps: number of recorded steps, the start left out: there every trajectory has the same loss.

    Returns:
        The half-width.

    Examples:
        >>> round(critical_value(0.01, methods=1, steps=1), 3)
        2.576
    """
    return float(-special.ndtri(false_alarms / (2 * methods * steps)))


def standard_error(losses: Array) -> Array:
    """Standard error of the mean over trajectories; not finite where a loss is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        error: Array = losses.std(0, ddof=1) / math.sqrt(len(losses))
    return error


def compare_with_curve(exact: Array, mean: Array, error: Array, width: float, steps: list[int]) -> CurveTest:
    """Compare means with a curve.

    Args:
        exact: the curve at the recorded steps.
        mean: over trajectories.
        error: the means' standard error.
        width: of the band, from `critical`.
        steps: the recorded ones.

    Returns:
        The comparison.
    """
    finite = np.isfinite(mean) & np.isfinite(error)
    error = np.hypot(np.where(finite, error, 0.0), ROUNDING * exact)
    z = np.where(finite, (np.where(finite, mean, 0.0) - exact) / error, np.inf)
    place = int(np.abs(z).argmax())
    known = bool(finite.all())
    return CurveTest(
        finite_or_none(z),
        float(abs(z[place])) if known else None,
        steps[place],
        float((width * error / exact).max()) if known else None,
        bool(abs(z[place]) <= width),
    )


def finite_or_none(values: Array) -> list[float | None]:
    """As numbers that JSON has."""
    return [float(value) if math.isfinite(value) else None for value in values]


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
