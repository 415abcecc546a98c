"""Checks of the arguments: a law with independent steps and finite variance, and a momentum below 1."""

from __future__ import annotations

import math

from msgd._checks import real_number
from msgd.noise import Law, Moments, Scheduled


def momentum_below_one(value: float) -> float:
    """Check the momentum μ.

    Args:
        value: the momentum.

    Returns:
        The momentum as a float.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is outside [0, 1).
    """
    number = real_number("momentum", value)
    if not 0 <= number < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, not {value!r}")
    return number


def moments_at(law: Law | Moments, n: int, step: int | None) -> Moments:
    """Return α and β of one step.

    Args:
        law: the law, or its moments.
        n: number of examples.
        step: the step; None if the law has to be the same at all steps.

    Returns:
        The moments.

    Raises:
        TypeError: ``law`` is not a law, its steps depend on each other, or it changes with the step although ``step``
            is None.
        ValueError: ``law`` has no finite variance, or no weights have these moments.
    """
    original = law
    while isinstance(law, Scheduled):
        if step is None:
            raise TypeError(f"{original!r} changes with the step: pass the law of one step, law.law_of_step(t)")
        law = law.law_of_step(step)
    if isinstance(law, Law):
        if law.correlated:
            raise TypeError(
                f"the steps of {law!r} depend on each other, and the theory needs independent steps: use MiniBatch(b) "
                "or another law with independent steps, or pass law.moments(n) to neglect the dependence"
            )
        law = law.moments(n)
    if not isinstance(law, Moments):
        raise TypeError(f"law must be a law such as Fisher(20) or its Moments, not {law!r}")
    if not math.isfinite(law.alpha):
        raise ValueError(f"{original!r} has no variance, so θ has no second moment: use a law of finite variance")
    if not (law.alpha >= 0 and law.alpha + n * law.beta >= -1e-9 * law.alpha):
        raise ValueError(f"no {n} weights have {law!r}: use moments with α ≥ 0 and α + n·β ≥ 0 for this n")
    return law
