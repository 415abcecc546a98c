"""Normality of the noise along directions: the Anderson-Darling test for each, and a joint p-value."""

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
    """Results of normality tests, one for each column of samples.

    Args:
        statistic: A²·(1 + 0.75/m + 2.25/m²) of each column.
        p: p-value of each column.
        adjusted: p-values with Holm's adjustment for the number of columns.
    """

    statistic: tuple[float, ...]
    p: tuple[float, ...]
    adjusted: tuple[float, ...]

    @property
    def joint(self) -> float:
        """The p-value of "all columns are normal": the smallest adjusted one, valid for any dependence of columns."""
        return min(self.adjusted)


def gaussianity(samples: ArrayLike | Tensor) -> Gaussianity:
    """Test each column for normality with any mean and variance, by the Anderson-Darling test.

    ``A² = −m − (1/m)·Σ_i (2i − 1)·(log Φ(y_(i)) + log Φ(−y_(m+1−i)))`` with the sorted ``y = (x − x̄)/s``, which
    emphasises the tails. The p-value is computed by the formula of D'Agostino and Stephens for estimated mean and
    variance. p-values below 1/2 are accurate to 0.005 for m ≥ 100 (0.01 for m ≥ 20), and to a relative error of about a
    tenth down to 0.001, without an upper limit on m; p-values above 1/2, which decide nothing, are accurate to 0.03.
    Very small p-values are extrapolated, with a minimum of 4e−24. A law that is only nearly normal is eventually
    rejected as m grows; `excess_kurtosis` measures how far from normal it is.

    Args:
        samples: samples that are independent within a column, shape (m,) or (m, k), m ≥ 8; see `noise_along`.

    Returns:
        Statistic and p-value of each column, and the joint p-value.

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
        raise ValueError(f"samples have {ndim} dimensions: use shape (m,) or (m, k)")
    array = samples.detach().double().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    columns = [independent(column, least=8) for column in array.reshape(len(array), -1).T]
    if not columns:
        raise ValueError("there are no columns: pass at least one")
    statistic = [_statistic(column) for column in columns]
    p = [_p_value(each) for each in statistic]
    return Gaussianity(tuple(statistic), tuple(p), tuple(holm(p)))


def _statistic(x: NDArray[np.float64]) -> float:
    m, spread = len(x), float(x.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(x).max()):
        raise ValueError("all samples of a column are equal: check that the law has noise")
    y = np.sort((x - x.mean()) / spread)
    odd = 2 * np.arange(1, m + 1) - 1
    # log_ndtr(−y) and not log(1 − Φ(y)), because Φ(9) is 1 in floating point
    square = -m - float((odd * (special.log_ndtr(y) + special.log_ndtr(-y[::-1]))).mean())
    return square * (1 + 0.75 / m + 2.25 / m**2)


def _p_value(a: float) -> float:
    if a < 0.2:
        return float(-np.expm1(-13.436 + 101.14 * a - 223.73 * a**2))
    if a < 0.34:
        return float(-np.expm1(-8.318 + 42.796 * a - 59.938 * a**2))
    if a < 0.6:
        return float(np.exp(0.9177 - 4.279 * a - 1.38 * a**2))
    a = min(a, 10.0)  # beyond 10 the parabola of the last case would rise again
    return float(np.exp(1.2937 - 5.709 * a + 0.0186 * a**2))
