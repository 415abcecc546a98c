"""Tests whether a mean over trajectories lies on a curve, with one simultaneous band for all recorded steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from msgd.lab.errors import UserError
from msgd.lab.least_squares.simulate import Array, Simulation
from msgd.lab.recipes.least_squares import has_curve
from msgd.theory import LeastSquares

#: lower bound on a standard error, as a fraction of the exact loss; laws without noise need it
ROUNDING = 1e-10
SMALLEST = 1e-200  #: smallest expected loss from which deviations can be judged


@dataclass(frozen=True)
class CurveTest:
    """The comparison of means over trajectories with one curve.

    Args:
        scores: z = (mean − exact)/standard error at each recorded step; None where the mean is not finite.
        largest: max |z| over the steps; None if a mean is not finite.
        step: the step at which max |z| is reached.
        half_width: the band's largest half-width over the steps, as a fraction of the exact loss; None if a mean is not
            finite.
        on_curve: whether the mean is in the band at every step.
    """

    scores: list[float | None]
    largest: float | None
    step: int
    half_width: float | None
    on_curve: bool

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return "on the curve" if self.on_curve else "off the curve"


def critical_value(false_alarms: float, *, methods: int, steps: int) -> float:
    """Half-width of the band in standard errors, by Bonferroni over steps and methods.

    A mean over many trajectories is nearly normal. The losses of neighbouring steps are correlated, so false alarms are
    rarer than the stated probability.

    Args:
        false_alarms: probability that any method leaves its band at any step although all methods are on their curves.
        methods: number of methods.
        steps: number of recorded steps without the start, where every trajectory has the same loss.

    Returns:
        The half-width in standard errors.

    Examples:
        >>> round(critical_value(0.01, methods=1, steps=1), 3)
        2.576
    """
    return float(-special.ndtri(false_alarms / (2 * methods * steps)))


def standard_error(losses: Array) -> Array:
    """Standard error of the mean over trajectories; it is not finite where a loss is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        error: Array = losses.std(0, ddof=1) / math.sqrt(len(losses))
    return error


def compare_with_curve(exact: Array, mean: Array, error: Array, width: float, steps: list[int]) -> CurveTest:
    """Compare means with a curve.

    Args:
        exact: the curve at the recorded steps.
        mean: the means over trajectories at these steps.
        error: the standard errors of the means.
        width: half-width of the band in standard errors, from `critical_value`.
        steps: the recorded steps.

    Returns:
        The comparison.
    """
    finite = np.isfinite(mean) & np.isfinite(error)
    error = np.hypot(np.where(finite, error, 0.0), ROUNDING * exact)
    z = np.where(finite, (np.where(finite, mean, 0.0) - exact) / error, np.inf)
    place = int(np.abs(z).argmax())
    all_finite = bool(finite.all())
    return CurveTest(
        finite_or_none(z),
        float(abs(z[place])) if all_finite else None,
        steps[place],
        float((width * error / exact).max()) if all_finite else None,
        bool(abs(z[place]) <= width),
    )


def finite_or_none(values: Array) -> list[float | None]:
    """Convert to a list, with None for NaN and infinities, which JSON cannot represent."""
    return [float(value) if math.isfinite(value) else None for value in values]


def exact_curve(problem: LeastSquares, simulation: Simulation, steps: list[int]) -> Array | None:
    """Compute a method's expected loss.

    Args:
        problem: the experiment's least-squares problem.
        simulation: the simulation of the method.
        steps: the recorded steps.

    Returns:
        The expected loss at these steps; None if the theory has no curve for the law.

    Raises:
        UserError: the expected loss overflows, or falls to 0.
    """
    s = simulation
    if not has_curve(s.law, s.n):
        return None
    start = np.zeros(s.d)
    exact: Array = problem.expected_loss(s.law, lr=s.lr, steps=s.steps, start=start, momentum=s.momentum)[steps]
    if not np.isfinite(exact).all():
        raise UserError(f"lr: at {s.lr:g} the expected loss of {s.method} overflows; use a smaller learning rate")
    if exact.min() < SMALLEST:
        raise UserError(
            f"noise: the expected loss of {s.method} is 0 at step {steps[int(exact.argmin())]}, so that no deviation "
            "from it can be judged; set noise above 0 and n above d, or take fewer steps"
        )
    return exact
