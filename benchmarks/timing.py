"""Ratios of times: interleaved repetitions, and an interval of the median that assumes no distribution."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy import stats

Step = Callable[[], object]
Result = dict[str, Any]


def interleaved(steps: Mapping[str, Step], repetitions: int, *, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of each step, taken in turn and every other time in reverse, so that drift of the machine cancels.

    Args:
        steps: by name.
        repetitions: how many of each count.
        warm_up: how many of each come before.

    Returns:
        The seconds, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(-warm_up, repetitions):
        order = list(steps.items())
        for name, step in order if repetition % 2 else order[::-1]:
            start = time.perf_counter()
            step()
            if repetition >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median with at least this probability, whatever the distribution.

    Its ends are order statistics: the number of values below the median is Binomial(n, 1/2).

    Args:
        values: independent.
        level: the probability.

    Returns:
        The ends; the least and the largest value where there are too few to reach the level.
    """
    ordered, n = sorted(values), len(values)
    below = max(0, int(stats.binom.ppf((1 - level) / 2, n, 0.5)) - 1)  # so many may lie below the lower end
    return ordered[below], ordered[n - 1 - below]


def ratio(above: Sequence[float], below: Sequence[float]) -> Result:
    """The median of ratios, pair by pair, with its interval and quartiles.

    Args:
        above: values.
        below: of the same repetitions.

    Returns:
        The numbers by name, with the number of pairs.
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, high = interval(ratios)
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "ratio": statistics.median(ratios),
        "low": low,
        "high": high,
        "quartile_1": quartiles[0],
        "quartile_3": quartiles[2],
        "pairs": len(ratios),
    }


def met(result: Result, reach: float, *, at_least: bool = False) -> bool:
    """Whether the worse end of a ratio's interval reaches what is to be reached.

    Args:
        result: from `ratio`.
        reach: the bound.
        at_least: larger ratios are better; otherwise smaller ones.

    Returns:
        Whether it does.
    """
    return bool(result["low"] >= reach if at_least else result["high"] <= reach)


def judged(what: str, against: str, reach: float, result: Result, *, at_least: bool = False) -> Result:
    """A row: what was measured against what, what is to be reached, and whether it is."""
    return {
        "what": what,
        "against": against,
        "reach": reach,
        "at_least": at_least,
        **result,
        "met": met(result, reach, at_least=at_least),
    }
