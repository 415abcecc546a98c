"""Heaviness of the tails of noise: kurtosis, and two estimators of the tail index with different assumptions."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor

from msgd._checks import positive_integer
from msgd.statistics.intervals import Estimate, independent, mean_of, quantile


def excess_kurtosis(samples: ArrayLike | Tensor, *, level: float = 0.95) -> Estimate:
    """Estimate ``γ = E(x − μ)⁴/σ⁴ − 3``: 0 for a normal, 6/(df − 4) for Student's t with df > 4, infinite for df ≤ 4.

    With the central moments m_k of m samples and g = m_4/m_2² − 3, the estimate is
    ``G = (m − 1)((m + 1)·g + 6)/((m−2)(m−3))``. It is unbiased for normal samples; for other samples it has a bias of
    order 1/m, and underestimates γ if tails are heavy.

    The interval is ``(G + 3)·exp(±t·s) − 3``, with the Student quantile t for m − 1 degrees of freedom and the
    jackknife standard error s of log(m_4/m_2²). It needs the eighth moment, and is too short if a few large samples
    dominate: a 95% interval has a coverage of about 93% for 1,000 normal samples, and of 80% for 1,000 samples of a t
    with df = 10 or of a Laplace distribution. For df ≤ 8 the eighth moment is infinite, and the interval is not
    reliable.

    Args:
        samples: independent samples, shape (m,), m ≥ 8.
        level: confidence level of the interval.

    Returns:
        The estimate. It is always finite: the kurtosis of m samples is at most about m.

    Raises:
        ValueError: there are too few samples, all are equal, one is not finite, or ``level`` is not a probability.

    Examples:
        >>> estimate = excess_kurtosis(np.random.default_rng(0).laplace(size=10_000))
        >>> estimate.low < 3 < estimate.high
        True

    References:
        Joanes, Gill 1998, "Comparing measures of sample skewness and kurtosis" (G₂); Efron, Stein 1981, "The jackknife
        estimate of variance".
    """
    x = independent(samples, least=8)
    m = len(x)
    margin = quantile(m, level)
    z = x - x.mean()
    spread = float(np.abs(z).max())
    if spread <= 1e-12 * float(np.abs(x).max()):
        raise ValueError("all samples are equal and have no kurtosis: check that the law has noise")
    z /= spread  # so that fourth powers neither overflow nor underflow
    first, second, third, fourth = (((z**p).sum() - z**p) / (m - 1) for p in (1, 2, 3, 4))  # leave-one-out moments
    without = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / (second - first**2) ** 2
    g = float((z**4).mean() / (z**2).mean() ** 2) - 3
    value = (m - 1) * ((m + 1) * g + 6) / ((m - 2) * (m - 3))
    error = math.sqrt((m - 1) * float(np.log(without).var()))
    low, high = ((value + 3) * math.exp(sign * margin * error) - 3 for sign in (-1, 1))
    return Estimate(value, low, high, level)


def hill(samples: ArrayLike | Tensor, *, k: int | None = None, level: float = 0.95) -> Estimate:
    """Hill's estimate ``k/Σ_{i≤k} log(|x|_(i)/|x|_(k+1))`` of the tail index α in ``P(|x| > t) ~ c·t^(−α)``.

    Moments of order below α are finite: noise with α > 2 has a finite variance, whereas a stable law with α < 2 has
    none. For a Pareto tail the logarithms of the samples above |x|_(k+1) are exponential with rate α, so that k·α/α̂ has
    a Gamma(k) distribution. The interval ``α̂·Γ_q/k`` with its quantiles Γ_q is then exact, and approximately
    ``α̂·(1 ± z/√k)`` for large k.

    Other power-law tails resemble a Pareto tail only far out. A larger k then adds a bias that the interval does not
    include: look for a plateau of `hill_curve`. Samples without a power-law tail (normal samples, or bounded ones such
    as the noise of mini-batches) have no tail index: α̂ then grows slowly with m/k and has no meaning.

    Args:
        samples: independent samples, shape (m,), centred at 0 as noise is, since only |x| is used.
        k: number of largest |x|, 1 ≤ k < m. None: ⌊√m⌋, which is of lower order than the k of least mean square error
            for Student's t with df < 4, m^(4/(4 + df)), so that the bias is small compared with the interval.
        level: confidence level of the interval.

    Returns:
        The estimate.

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` is out of range, the k + 1 largest |x| are equal or 0, a sample is not finite, or ``level`` is
            not a probability.

    Examples:
        >>> estimate = hill(np.random.default_rng(0).standard_t(2, size=10_000))
        >>> estimate.low < 2 < estimate.high
        True

    References:
        Hill 1975, "A simple general approach to inference about the tail of a distribution". The choice of k: Hall
        1982, "On some simple estimates of an exponent of regular variation".
    """
    x = independent(samples, least=2)
    k = math.isqrt(len(x)) if k is None else positive_integer("k", k)
    quantile(len(x), level)  # raises if the level is not a probability
    value = float(hill_curve(x, most=k)[-1])
    if math.isinf(value):
        raise ValueError(f"the {k + 1} largest |x| are equal: use a larger k than {k}, or samples with a tail")
    low, high = (value * float(special.gammaincinv(k, (1 + sign * level) / 2)) / k for sign in (-1, 1))
    return Estimate(value, low, high, level)


def hill_curve(samples: ArrayLike | Tensor, *, most: int | None = None) -> Tensor:
    """Hill's estimate for k = 1, 2, …, to be plotted: a plateau of the curve gives the tail index.

    Args:
        samples: see `hill`.
        most: the largest k; None: a tenth of the number of samples.

    Returns:
        The estimates, shape (most,), float64, with entry k − 1 for k; infinite if the k + 1 largest |x| are equal.

    Raises:
        TypeError: ``most`` is not an integer.
        ValueError: ``most`` is out of range, too many samples are 0, or one is not finite.

    Examples:
        >>> hill_curve([1.0, -2.0, 4.0, 8.0], most=2) * math.log(2)  # the logarithms of |x| are log 2 apart
        tensor([1.0000, 0.6667], dtype=torch.float64)

    References:
        Hill 1975; the plot: Drees, de Haan, Resnick 2000, "How to make a Hill plot".
    """
    x = np.sort(np.abs(independent(samples, least=2)))[::-1]
    most = max(1, len(x) // 10) if most is None else positive_integer("most", most)
    if most >= len(x):
        raise ValueError(f"{len(x)} samples have no {most + 1} largest |x|: use a smaller k, or more samples")
    if x[most] == 0:
        raise ValueError(f"only {np.count_nonzero(x)} of the samples are not 0: use a smaller k than {most}")
    logs = torch.from_numpy(np.log(x[: most + 1]))
    k = torch.arange(1, most + 1)
    return k / (logs[:-1].cumsum(0) - k * logs[1:]).clamp(min=0.0)


def block_index(samples: ArrayLike | Tensor, *, size: int | None = None, level: float = 0.95) -> Estimate:
    """Estimate the index α of a stable law from block sums: ``1/α̂ = (mean log|Y| − mean log|x|)/log K₁``.

    Y are the sums of K₁ consecutive samples. For a strictly stable law Y has the distribution of ``K₁^(1/α)·x``, so
    that ``E log|Y| − E log|x| = log K₁/α`` and 1/α̂ is unbiased. It is the mean over blocks of
    ``log|Y| − mean log|x|`` within the block, divided by log K₁. These differences are independent, so 1/α has a
    Student interval, and the interval of α consists of the reciprocals.

    **The estimate is meaningful only if the law is stable**, which is usually the open question; α = 2 is then the
    normal. For other laws it still returns a value with a short interval. Student's t with df = 3 has a finite
    variance, yet gives 1.7 to 1.8. A mixture of normals with several scales s, such as the pooled coordinates of a
    gradient, has light tails, yet gives ``1/α̂ ≈ 1/2 + (½·log E s² − E log s)/log K₁``, which exceeds 1/2 by Jensen's
    inequality. Panigrahi et al. 2019 test instead whether the noise along a direction is normal, and find that it
    nearly is for batches of 256 and more early in training. Use `gaussianity` first, and `hill`, which gives α > 2 for
    noise with a finite variance.

    Args:
        samples: independent samples in random order, shape (m,), centred at 0.
        size: K₁ ≥ 2, the number of samples in a block, with at least two blocks; samples left over at the end are not
            used. None: ⌊√m⌋, about the number of blocks.
        level: confidence level of the interval.

    Returns:
        The estimate, which may exceed 2. The value or the upper end is infinite if the sums are not larger than the
        samples.

    Raises:
        TypeError: ``size`` is not an integer.
        ValueError: ``size`` is out of range, a sample or a sum is 0 or not finite, or ``level`` is not a probability.

    Examples:
        >>> estimate = block_index(np.random.default_rng(0).standard_cauchy(10_000))
        >>> estimate.low < 1 < estimate.high
        True

    References:
        Mohammadi, Mohammadpour, Ogata 2015, "On estimating the tail index and the spectral measure of multivariate
        α-stable distributions", corollary 2.4; used by Şimşekli, Sagun, Gürbüzbalaban 2019, arXiv 1901.06053. The
        noise along directions: Panigrahi, Somani, Goyal, Netrapalli 2019, arXiv 1910.09626.
    """
    x = independent(samples, least=4)
    size = math.isqrt(len(x)) if size is None else positive_integer("size", size)
    if not 2 <= size <= len(x) // 2:
        raise ValueError(f"size must be at least 2 and leave two blocks of {len(x)} samples, not {size}")
    blocks = x[: len(x) // size * size].reshape(-1, size)
    sums = blocks.sum(1)
    if not (blocks.all() and sums.all()):
        raise ValueError("a sample or a block sum is exactly 0 and has no logarithm: remove it or use another size")
    differences = np.log(np.abs(sums)) - np.log(np.abs(blocks)).mean(1)
    inverse = mean_of(differences / math.log(size), level)
    value, low, high = (1 / end if end > 0 else math.inf for end in (inverse.value, inverse.high, inverse.low))
    return Estimate(value, low, high, level)
