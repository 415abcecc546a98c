"""Laws of the user's own: their draws must have the mean and the variance that they claim, and reports record them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from msgd.lab.errors import UserError
from msgd.lab.plan.cost import examples_per_step
from msgd.lab.recipes.own import record_own
from msgd.lab.recipes.schema import Recipe
from msgd.lab.text import law_text
from msgd.noise import Law

DRAWS = 400  #: smallest number of draws
EXAMPLES = 10_000  #: smallest number of examples in all batches of size b: the mean is then known to 1%
NUMBERS = 5_000_000  #: largest number of weights that are drawn beyond `DRAWS`
ERRORS = 6.0  #: standard errors that the mean of the draws may be away from 1; chance goes so far once in 5·10⁸ laws
WRONG = 2.0  #: factor between the claimed and the observed variance from which on a law is refused


def describe_own(recipe: Recipe, *, n: int) -> dict[str, Any] | None:
    """Check the laws of the user's own, and describe all own parts for experiment.json.

    Args:
        recipe: the recipe, whose laws are built.
        n: number of training examples.

    Returns:
        The description; None if everything is built in.

    Raises:
        UserError: the draws of a law contradict its moments.
    """
    laws = recipe.own_laws()
    for law in laws.values():
        check_draws(law, n)
    return record_own(
        recipe.own, {key: (law, law_text(law), examples_per_step(law, n)) for key, law in laws.items()}, n=n
    )


def check_draws(law: Law, n: int) -> None:
    """Compare the draws of a law with the mean 1 and the variance α + β that it claims.

    Args:
        law: the law.
        n: number of training examples.

    Raises:
        UserError: the mean or the variance of the draws is another one. Without this check, a wrong factor in
            ``sample`` would silently train at another learning rate.
    """
    moments, name = law.moments(n), type(law).__name__
    if not math.isfinite(moments.alpha):
        return
    draws = max(DRAWS, min(round(EXAMPLES * moments.alpha / n), NUMBERS // n))
    sums = np.array([_sums(law, n, step) for step in range(draws)])
    means = sums[:, 0] / n
    error = max(float(means.std(ddof=1)), 1e-7) / math.sqrt(draws)
    if abs(means.mean() - 1) > max(ERRORS * error, 1e-5):
        raise UserError(
            f"{name}: its weights must have mean 1, but {draws} draws for n = {n} have mean {means.mean():.4g}"
        )
    variance = float(sums[:, 1].sum()) / (n * draws)
    claimed = moments.alpha + moments.beta
    if not (claimed / WRONG - 1e-9 <= variance <= claimed * WRONG + 1e-9):
        raise UserError(
            f"{name}: moments({n}) claims the variance α + β = {claimed:.4g}, but {draws} draws have {variance:.4g}"
        )


def _sums(law: Law, n: int, step: int) -> tuple[float, float]:
    """Σ w_i and Σ (w_i − 1)² of one draw."""
    value = law.draw(n, seed=0, step=step).value.double().numpy()
    return float(value.sum()), float(((value - 1) ** 2).sum()) + (n - len(value))
