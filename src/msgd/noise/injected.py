"""Laws that perturb every weight: Gaussian noise of the Fisher and of the covariance kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from msgd.noise.law import Law, Sample, batch_size, count
from msgd.noise.moments import Moments
from msgd.noise.sampling import NO_NOISE


def gaussian(n: int, variance: float, rng: Generator, *, centred: bool) -> NDArray[np.float64]:
    """Draw ``1 + √variance·ε``, or ``1 + √variance·(ε − ε̄)`` whose mean is 1 surely, with ε ~ N(0, I_n)."""
    value = rng.standard_normal(n)
    if centred:
        value -= value.mean()
    value *= math.sqrt(variance)
    value += 1.0
    return value


@dataclass(frozen=True)
class Fisher(Law):
    """MSGD-Fisher: ``w = 1 + √(n/b)·ε`` with ε ~ N(0, I_n): α = n/b, β = 0.

    The gradient noise has the covariance F/b, F the empirical Fisher: SGD's, plus ḡḡᵀ/b.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number, also above n.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Example:
        >>> Fisher(20).moments(1000).effective_batch_size(1000)
        20.0

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    @property
    def coupled(self) -> bool:
        """The components of ε are independent."""
        return False

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        return Moments(count("n", n) / self.b, 0.0)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Dense Gaussian weights (see `Law.sample`)."""
        return Sample(None, gaussian(n, n / self.b, rng, centred=False))


@dataclass(frozen=True)
class Cov(Law):
    """MSGD-Cov: ``w = 1 + √(n/b)·(ε − ε̄)`` with ε ~ N(0, I_n): α = n/b, β = −1/b.

    Cov(ε − ε̄) = I − 11ᵀ/n, so the gradient noise has the covariance C/b: that of SGD with replacement, exactly.
    Σw = n surely; at n = 1 nothing is left and α = β = 0.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number, also above n.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Example:
        >>> Cov(20).moments(1000)
        Moments(alpha=50.0, beta=-0.05)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        return NO_NOISE if count("n", n) == 1 else Moments(n / self.b, -1 / self.b)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Dense Gaussian weights, centred over the whole logical batch (see `Law.sample`)."""
        return Sample(None, gaussian(n, n / self.b, rng, centred=True))
