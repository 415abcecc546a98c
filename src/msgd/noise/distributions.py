"""Scalar distributions of the injected noise ε, with mean 0 and by default variance 1."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import special

from msgd._checks import real_number

BLOCK = 2**15  #: numbers processed at a time, to stay in the cache: at n = 10⁷ memory access dominates the time
_MINUS_ONE = np.float64(-1.0).view(np.int64)


class ScalarLaw(ABC):
    """A distribution of ε ∈ R with mean 0, to be used in `msgd.noise.Injected`."""

    @property
    def variance(self) -> float:
        """Var ε: 1 unless a subclass overrides it; infinite if the variance does not exist."""
        return 1.0

    @property
    @abstractmethod
    def kurtosis(self) -> float:
        """E ε⁴ / (E ε²)²: 3 for the normal; infinite if only the fourth moment is infinite, NaN if the variance is."""

    @abstractmethod
    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Draw independent values in sequence: a draw of k and one of m values equal a single draw of k + m values.

        Args:
            size: number of values.
            rng: the source of randomness.

        Returns:
            Array of shape (size,).
        """


@dataclass(frozen=True)
class Normal(ScalarLaw):
    """N(0, 1)."""

    @property
    def kurtosis(self) -> float:
        """3."""
        return 3.0

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Standard normal values (see `ScalarLaw.sample`)."""
        return rng.standard_normal(size)


@dataclass(frozen=True)
class Rademacher(ScalarLaw):
    """±1 with probability 1/2 each."""

    @property
    def kurtosis(self) -> float:
        """1, the smallest possible kurtosis."""
        return 1.0

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Random signs (see `ScalarLaw.sample`)."""
        bits = rng.integers(2, size=size)
        for start in range(0, size, BLOCK):  # set the bits of ±1.0: numpy.where would mispredict branches
            part = bits[start : start + BLOCK]
            part <<= 63
            part ^= _MINUS_ONE
        return bits.view(np.float64)


@dataclass(frozen=True)
class Uniform(ScalarLaw):
    """Uniform on [−√3, √3]: variance (2√3)²/12 = 1."""

    @property
    def kurtosis(self) -> float:
        """9/5."""
        return 1.8

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Uniform values (see `ScalarLaw.sample`)."""
        return rng.uniform(-math.sqrt(3), math.sqrt(3), size)


@dataclass(frozen=True)
class Laplace(ScalarLaw):
    """Laplace of scale 1/√2: variance 2·(1/√2)² = 1."""

    @property
    def kurtosis(self) -> float:
        """6."""
        return 6.0

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Laplace values (see `ScalarLaw.sample`)."""
        return rng.laplace(0.0, math.sqrt(0.5), size)


@dataclass(frozen=True)
class StudentT(ScalarLaw):
    """Student's t, scaled to variance 1 or to the normal's quartiles.

    For df ≤ 2 there is no finite variance to scale by. To compare tails, use ``scale="iqr"`` for every df: with
    ``scale="variance"`` a heavier tail comes with a narrower centre, so that tail and scale are confounded.

    Args:
        df: degrees of freedom, > 1 (for df ≤ 1 the mean does not exist).
        scale: "variance": ε = t·√((df−2)/df), for df > 2; "iqr": ε = t·z/q with z, q the upper quartiles of N(0, 1)
            and of t, so that ε has the normal's interquartile range.

    Raises:
        ValueError: df ≤ 1; df ≤ 2 with ``scale="variance"``; or ``scale`` is unknown.

    Examples:
        >>> StudentT(1.5, scale="iqr").variance
        inf
    """

    df: float
    scale: Literal["variance", "iqr"] = "variance"

    def __post_init__(self) -> None:
        if not 1 < real_number("df", self.df) < math.inf:
            raise ValueError(f"df must be a number above 1, not {self.df!r}: with df ≤ 1 Student's t has no mean")
        if self.scale not in ("variance", "iqr"):
            raise ValueError(f'scale must be "variance" or "iqr", not {self.scale!r}')
        if self.scale == "variance" and self.df <= 2:
            raise ValueError(f'Student\'s t has no variance at df = {self.df}: use scale="iqr", or df > 2')

    @property
    def variance(self) -> float:
        """df/(df−2)·factor²; infinite for df ≤ 2."""
        if self.scale == "variance":
            return 1.0
        return self.df / (self.df - 2) * self._factor**2 if self.df > 2 else math.inf

    @property
    def kurtosis(self) -> float:
        """3 + 6/(df−4); infinite for 2 < df ≤ 4, NaN for df ≤ 2."""
        if self.df > 4:
            return 3 + 6 / (self.df - 4)
        return math.inf if self.df > 2 else math.nan

    @property
    def _factor(self) -> float:
        if self.scale == "variance":
            return math.sqrt((self.df - 2) / self.df)
        return float(special.ndtri(0.75) / special.stdtrit(self.df, 0.75))

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Scaled Student-t values (see `ScalarLaw.sample`)."""
        return self._factor * rng.standard_t(self.df, size)


@dataclass(frozen=True)
class Gamma(ScalarLaw):
    """A centred, skewed distribution: (γ − k)/√k with γ ~ Gamma(k, 1), whose mean and variance are k; skewness 2/√k.

    Args:
        shape: k > 0.

    Raises:
        ValueError: ``shape`` is not a positive number.
    """

    shape: float

    def __post_init__(self) -> None:
        if not 0 < real_number("shape", self.shape) < math.inf:
            raise ValueError(f"shape must be a positive number, not {self.shape!r}")

    @property
    def kurtosis(self) -> float:
        """3 + 6/k."""
        return 3 + 6 / self.shape

    def sample(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Centred gamma values (see `ScalarLaw.sample`)."""
        return (rng.standard_gamma(self.shape, size) - self.shape) / math.sqrt(self.shape)
