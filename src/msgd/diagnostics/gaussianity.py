"""Whether noise is normal along directions: the test of Anderson and Darling, and the joint answer of many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor

from msgd.statistics.intervals import independent
from msgd.statistics.multiple_testing import holm


@dataclass(frozen=True)
class Gaussianity:
    """Tests of normality, one for each column of samples.

    Args:
        statistic: A²·(1 + 0.75/m + 2.25/m²) of each column.
        p: its p-value.
        adjusted: the p-values, adjusted by Holm for their number.
    """

    statistic: tuple[float, ...]
    p: tuple[float, ...]
    adjusted: tuple[float, ...]

    @property
    def joint(self) -> float:
        """The p-value of "all columns are normal": the smallest adjusted one, valid however they depend."""
        return min(self.adjusted)


def gaussianity(samples: ArrayLike | Tensor) -> Gaussianity:
    """The test of Anderson and Darling, of a normal law with any mean and variance, for each column.

    ``A² = −m − (1/m)·Σ_i (2i − 1)·(log Φ(y_(i)) + log Φ(−y_(m+1−i)))`` with the sorted ``y = (x − x̄)/s``, which
    gives weight to the tails. The p-value is the formula of D'Agostino and Stephens for estimated mean and variance:
    below 1/2 it is right to 0.005 from m = 100 on (0.01 from m = 20), and to about a tenth of itself down to 0.001,
    with no upper limit of m; above 1/2, where nothing is decided, to 0.03. Very small ones are extrapolated, and end at
    4e−24. A law that is only nearly normal is rejected in the end as m grows; `excess_kurtosis` says how far it is.

    Args:
        samples: independent within a column, shape (m,) or (m, k), m ≥ 8; see `noise_along`.

    Returns:
        Statistic and p-value of each column, and the joint answer.

    Raises:
        ValueError: the shape is wrong, there are too few samples, one is not finite, or a column is constant.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> gaussianity(rng.standard_normal((500, 3))).joint > 0.05
        True
        >>> gaussianity(rng.standard_t(3, size=500)).joint < 1e-6
        True

    References:
        Anderson, Darling 1954, "A test of goodness of fit"; D'Agostino, Stephens 1986, "Goodness-of-fit techniques",
        table 4.9. Holm 1979, "A simple sequentially rejective multiple test procedure". Tests of the noise of
        gradients: Panigrahi et al. 2019, arXiv 1910.09626.
    """
    ndim = samples.ndim if isinstance(samples, Tensor) else np.ndim(samples)
    if ndim not in (1, 2):
        raise ValueError(f"samples must have shape (m,) or (m, k), and have {ndim} dimensions")
    array = samples.detach().double().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    columns = [independent(column, least=8) for column in array.reshape(len(array), -1).T]
    if not columns:
        raise ValueError("there are no columns: give at least one")
    statistic = [_statistic(column) for column in columns]
    p = [_p_value(each) for each in statistic]
    return Gaussianity(tuple(statistic), tuple(p), tuple(holm(p)))


def _statistic(x: NDArray[np.float64]) -> float:
    m, spread = len(x), float(x.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(x).max()):
        raise ValueError("all samples of a column are equal: is there noise at all?")
    y = np.sort((x - x.mean()) / spread)
    odd = 2 * np.arange(1, m + 1) - 1
    # log_ndtr, and no 1 − Φ: Φ(9) is 1 in floating point
    square = -m - float((odd * (special.log_ndtr(y) + special.log_ndtr(-y[::-1]))).mean())
    return square * (1 + 0.75 / m + 2.25 / m**2)


def _p_value(a: float) -> float:
    if a < 0.2:
        return float(-np.expm1(-13.436 + 101.14 * a - 223.73 * a**2))
    if a < 0.34:
        return float(-np.expm1(-8.318 + 42.796 * a - 59.938 * a**2))
    if a < 0.6:
        return float(np.exp(0.9177 - 4.279 * a - 1.38 * a**2))
    a = min(a, 10.0)  # beyond, the last parabola would turn and rise
    return float(np.exp(1.2937 - 5.709 * a + 0.0186 * a**2))
