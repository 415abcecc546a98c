"""What a user may give: a law whose steps are independent and have a variance, a momentum below 1."""

from __future__ import annotations

import math

from msgd._checks import real_number
from msgd.noise import Law, Moments, Scheduled


def momentum_below_one(value: float) -> float:
    """Check μ.

    Args:
        value: the momentum.

    Returns:
        It as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is outside [0, 1).
    """
    number = real_number("momentum", value)
    if not 0 <= number < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, not {value!r}")
    return number


def moments_at(law: Law | Moments, n: int, step: int | None) -> Moments:
    """Take α and β of one step.

    Args:
        law: the law, or its moments.
        n: number of examples.
        step: the step; None for a law that is the same at all.

    Returns:
        The moments.

    Raises:
        TypeError: ``law`` is none, ties steps together, or changes with the step where none is given.
        ValueError: it has no variance, or no weights have these moments.
    """
    asked = law
    while isinstance(law, Scheduled):
        if step is None:
            raise TypeError(f"{asked!r} changes with the step: give the law of one step, law.law_of_step(t)")
        law = law.law_of_step(step)
    if isinstance(law, Law):
        if law.correlated:
            raise TypeError(
                f"{law!r} ties steps together, and least squares are exact for independent ones: use MiniBatch(b) or "
                "another law without such ties, or pass law.moments(n) to neglect them"
            )
        law = law.moments(n)
    if not isinstance(law, Moments):
        raise TypeError(f"law must be a law such as Fisher(20) or its Moments, not {law!r}")
    if not math.isfinite(law.alpha):
        raise ValueError(f"{asked!r} has no variance, and so θ no second moment: use a law of finite variance")
    if not (law.alpha >= 0 and law.alpha + n * law.beta >= -1e-9 * law.alpha):
        raise ValueError(f"no {n} weights have {law!r}: α ≥ 0 and α + n·β ≥ 0 are needed, with this n")
    return law
