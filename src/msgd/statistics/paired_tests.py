"""Paired comparisons with a reference: a t-test of the difference, and two one-sided tests (TOST) of equivalence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from msgd.statistics.intervals import mean_of, standard_error
from msgd.statistics.multiple_testing import holm

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Comparison:
    """One method against the reference, paired by seed; differences and margin in the score's unit.

    Args:
        method: the method.
        reference: the reference.
        seeds: number of pairs.
        difference: mean of method − reference.
        ci_low: lower end of the 95% interval of the difference; None for one seed, as all that follows from spread.
        ci_high: upper end.
        ci90_low: lower end of the 90% interval, the one that decides equivalence.
        ci90_high: upper end.
        margin: what counts as equivalent: |difference| below it; None: no equivalence is tested.
        p_unadjusted: two-sided paired t-test of no difference.
        p_difference: the same, adjusted by Holm over all the methods that were compared.
        p_equivalence: two one-sided tests (TOST) of |difference| ≥ margin; None without a margin.
        verdict: ``equivalent``, ``different``, ``negligible`` (different, yet within the margin) or ``inconclusive``.
        seeds_needed: for an inconclusive one: the pairs at which one of the tests passes with 80% probability, if mean
            and spread stay; None where `MOST_SEEDS` would not do.
    """

    method: str
    reference: str
    seeds: int
    difference: float
    ci_low: float | None
    ci_high: float | None
    ci90_low: float | None
    ci90_high: float | None
    margin: float | None
    p_unadjusted: float | None
    p_difference: float | None
    p_equivalence: float | None
    verdict: str
    seeds_needed: int | None


def compare(
    scores: Mapping[str, Mapping[int, float]], reference: str | Mapping[str, str], margin: float | None
) -> list[Comparison]:
    """Compare every method with the reference.

    Each difference is taken between runs of the same seed, which share their initial parameters. A difference is
    declared where the Holm-adjusted p ≤ 5%; equivalence where the 90% interval lies within ±margin, which is TOST at
    5%, not adjusted: the claim "all are equivalent" is an intersection, and needs each of them.

    Args:
        scores: method → seed → endpoint, in the score's unit.
        reference: a method; or each method's own: method → reference.
        margin: the largest difference that does not matter, in the same unit; None: only differences are tested, and
            a verdict is ``different`` or ``inconclusive``.

    Returns:
        A comparison for each other method that shares a seed with the reference, in the given order.

    References:
        Schuirmann, "A comparison of the two one-sided tests procedure …", J. Pharmacokinet. Biopharm. 15 (1987).
        Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6 (1979).
        Berger, Hsu, "Bioequivalence trials, intersection-union tests …", Stat. Sci. 11 (1996).
    """
    references = dict.fromkeys(scores, reference) if isinstance(reference, str) else reference
    pairs = {}
    for method, by_seed in scores.items():
        base = scores.get(references.get(method, method), {})
        shared = [seed for seed in by_seed if seed in base]
        if references.get(method, method) != method and shared:
            pairs[method] = np.array([by_seed[seed] - base[seed] for seed in shared])
    p_values = {method: _p_of_difference(d) for method, d in pairs.items() if len(d) > 1}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [_judge(m, references[m], d, margin, p_values.get(m), adjusted.get(m)) for m, d in pairs.items()]


def mean_interval(values: Sequence[float], level: float = 1 - LEVEL) -> tuple[float, float, float]:
    """Mean and its t-interval.

    Args:
        values: independent, one for each seed.
        level: coverage.

    Returns:
        Mean, lower and upper end; the mean three times where there is one value.
    """
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, mean, mean
    estimate = mean_of(array, level)
    return estimate.value, estimate.low, estimate.high


def _p_of_difference(differences: NDArray[np.float64]) -> float:
    if _is_constant(differences):  # there is no spread, so a sign test is left
        return 1.0 if differences[0] == 0 else 2.0 ** (1 - len(differences))
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _is_constant(differences: NDArray[np.float64]) -> bool:
    """Whether every pair differs by the same amount, to rounding: accuracies over few examples come in steps."""
    smallest = 1e-150  # the squares of smaller differences are not all above zero
    return bool(np.ptp(differences) <= max(1e-12 * np.abs(differences).max(), smallest))


def _p_of_equivalence(differences: NDArray[np.float64], margin: float) -> float:
    """Two one-sided tests of |difference| ≥ margin: the larger of their p-values, that of the nearer end."""
    distance = margin - abs(float(differences.mean()))
    if _is_constant(differences):
        return 2.0 ** -len(differences) if distance > 0 else 1.0
    return float(stats.t.sf(distance / standard_error(differences), len(differences) - 1))


def _judge(
    method: str, reference: str, d: NDArray[np.float64], margin: float | None, p: float | None, p_holm: float | None
) -> Comparison:
    mean = float(d.mean())
    if p is None or p_holm is None:  # one pair has no spread
        none = (None, None, None, None)
        return Comparison(method, reference, len(d), mean, *none, margin, None, None, None, "inconclusive", None)
    error = standard_error(d)
    _, low95, high95 = mean_interval(d.tolist(), 1 - LEVEL)
    _, low90, high90 = mean_interval(d.tolist(), 1 - 2 * LEVEL)
    p_equivalence = None if margin is None else _p_of_equivalence(d, margin)
    different, equivalent = p_holm <= LEVEL, p_equivalence is not None and p_equivalence < LEVEL
    if different:
        verdict = "negligible" if equivalent else "different"
    else:
        verdict = "equivalent" if equivalent else "inconclusive"
    spread = error * math.sqrt(len(d))
    needed = _seeds_needed(mean, spread, margin, len(d)) if verdict == "inconclusive" and spread > 0 else None
    return Comparison(
        method, reference, len(d), mean, low95, high95, low90, high90, margin, p, p_holm, p_equivalence, verdict, needed
    )


def _seeds_needed(mean: float, spread: float, margin: float | None, now: int) -> int | None:
    """Smallest number of pairs at which a test decides with the stated power, if mean and spread stay."""
    n = np.arange(now + 1, MOST_SEEDS + 1)
    error = spread / np.sqrt(n)
    difference = stats.nct.sf(stats.t.ppf(1 - LEVEL / 2, n - 1), n - 1, abs(mean) / error)
    power = difference
    if margin is not None:
        # TOST passes where |estimate| < margin − t·error; the estimate is taken as normal around the mean.
        reach = margin - stats.t.ppf(1 - LEVEL, n - 1) * error
        equivalence = np.where(
            reach > 0, stats.norm.cdf((reach - mean) / error) - stats.norm.cdf((-reach - mean) / error), 0.0
        )
        power = np.maximum(difference, equivalence)
    enough = n[power >= POWER]
    return int(enough[0]) if len(enough) else None
