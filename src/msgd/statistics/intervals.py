"""A number with its interval: Student's, for the mean of independent samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """An estimate and an interval that covers the true value with probability ``level``, as the source says.

    Args:
        value: the estimate.
        low: lower end of the interval.
        high: upper end, which may be infinite.
        level: of the interval.
    """

    value: float
    low: float
    high: float
    level: float


def mean_of(samples: ArrayLike, level: float) -> Estimate:
    """The mean of independent samples, with Student's interval.

    Args:
        samples: shape (m,), m ≥ 2.
        level: of the interval, in (0, 1).

    Returns:
        The mean; its interval is exact for normal samples, and too short where few draws have a long upper tail.

    Raises:
        ValueError: there are fewer than two samples, or ``level`` is no probability.
    """
    values = np.asarray(samples, dtype=np.float64)
    half_width = quantile(len(values), level) * standard_error(values)
    mean = float(values.mean())
    return Estimate(mean, mean - half_width, mean + half_width, level)


def standard_error(samples: NDArray[np.float64]) -> float:
    """Standard error of the mean of independent samples, shape (m,), m ≥ 2."""
    return float(samples.std(ddof=1)) / math.sqrt(len(samples))


@lru_cache(maxsize=1000)  # a report asks for the same one at every step of every method
def quantile(count: int, level: float) -> float:
    """Student's quantile of a two-sided interval from ``count`` samples.

    Args:
        count: of samples.
        level: of the interval.

    Returns:
        The quantile, of count − 1 degrees of freedom.

    Raises:
        ValueError: there are fewer than two samples, or ``level`` is no probability.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}: 0.95 is usual")
    if count < 2:
        raise ValueError(f"an interval takes at least 2 samples, not {count}")
    # Not scipy.stats: every worker that trains imports this module, and scipy.stats takes 0.4 s.
    return float(special.stdtrit(count - 1, (1 + level) / 2))


def independent(samples: ArrayLike | Tensor, *, least: int) -> NDArray[np.float64]:
    """Check a series of samples.

    Args:
        samples: shape (m,); a tensor may be anywhere and in any dtype.
        least: number of them.

    Returns:
        The same values, in float64.

    Raises:
        ValueError: the shape is another, there are too few, or one is not finite.
    """
    x = np.asarray(
        samples.detach().double().cpu().numpy() if isinstance(samples, Tensor) else samples, dtype=np.float64
    )
    if x.ndim != 1:
        raise ValueError(f"samples must have shape (m,), not {x.shape}: give one column, one direction, at a time")
    if len(x) < least:
        raise ValueError(f"{len(x)} samples are too few: at least {least} are needed")
    if not np.isfinite(x).all():
        raise ValueError("a sample is infinite or not a number: leave it out")
    return x
