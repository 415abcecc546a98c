"""Two batches with opposite signs: noise enhancement (`noise_enhancement`) and SVAG (`svag`), both a law `TwoBatch`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from msgd._checks import positive_integer, real_number
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import NO_NOISE, MiniBatch, subset


@dataclass(frozen=True)
class TwoBatch(Law):
    """Two mini-batches, one with a negative weight: ``w = (1+γ)·w¹ − γ·w²``, each n/b on a random b-subset.

    With l = (1+γ)² + γ² and a = n(n−b)/(b(n−1)), the α of one batch:

    - independent batches: Cov(w) = l·Cov(w¹), so α = l·a;
    - disjoint batches: E w¹_i w²_i = 0 and E w¹_i w²_j = n/(n−1), so Cov(w¹, w²) = −(n/(n−1))·I + 11ᵀ/(n−1). With
      2γ(1+γ) = l − 1 the cross terms add (l−1)·n/(n−1), and α = n(nl−b)/(b(n−1)).

    Σw = n exactly, so β = −α/n.

    Args:
        b: size of each batch, an integer, at most n (2b ≤ n if disjoint).
        gamma: γ ≥ 0; 0 is `MiniBatch`.
        disjoint: whether the batches share no example; otherwise they are independent.

    Raises:
        TypeError: ``b`` is not an integer, or ``disjoint`` not a bool.
        ValueError: ``b`` < 1, or ``gamma`` is not a number ≥ 0; ``moments`` and ``sample`` also raise it if n is too
            small.

    Examples:
        >>> round(noise_enhancement(20, gamma=1).moments(1000).alpha / MiniBatch(20).moments(1000).alpha, 12)
        5.0

    References:
        Mori, Ueda, arXiv 2009.13094 (noise enhancement); Li, Malladi, Arora, arXiv 2102.12470 (SVAG).
    """

    b: int
    gamma: float
    disjoint: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", positive_integer("b", self.b))
        if not 0 <= real_number("gamma", self.gamma) < math.inf:
            raise ValueError(f"gamma must be a number ≥ 0, not {self.gamma!r}")
        if not isinstance(self.disjoint, bool):
            raise TypeError(f"disjoint must be True or False, not {self.disjoint!r}")

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        if n == 1:
            return NO_NOISE
        l = (1 + self.gamma) ** 2 + self.gamma**2  # noqa: E741 - the letter of SVAG
        alpha = n * (n * l - self.b) / (self.b * (n - 1)) if self.disjoint else l * MiniBatch(self.b).moments(n).alpha
        return Moments(alpha, -alpha / n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw both batches: their examples whose weights do not cancel, sorted (see `Law.sample`)."""
        self._check(n)
        first = _all(n, subset(n, self.b, rng))
        if self.disjoint:
            rest = np.setdiff1d(np.arange(n), first, assume_unique=True)
            second = rest[_all(n - self.b, subset(n - self.b, self.b, rng))]
        else:
            second = _all(n, subset(n, self.b, rng))
        both = np.concatenate([first, second])
        scale = n / self.b
        signed = np.repeat([(1 + self.gamma) * scale, -self.gamma * scale], self.b)
        index, place = np.unique(both, return_inverse=True)
        value = np.bincount(place, weights=signed, minlength=len(index))
        kept = value != 0
        return Sample(index[kept], value[kept])

    def _check(self, n: int) -> None:
        needed = 2 * self.b if self.disjoint else self.b
        if positive_integer("n", n) < needed:
            kind = "disjoint batches" if self.disjoint else "batches"
            raise ValueError(
                f"two {kind} of b = {self.b} need at least {needed} examples, and n is {n}: use a smaller b"
            )


def _all(n: int, index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.arange(n) if index is None else index


def noise_enhancement(b: int, gamma: float) -> TwoBatch:
    """Noise enhancement: (1+γ) times one batch minus γ times an independent batch; α is (1+γ)² + γ² times SGD's.

    Args:
        b: size of each batch.
        gamma: γ ≥ 0.

    Returns:
        The law.

    References:
        Mori, Ueda: "Improved generalization by noise enhancement", arXiv 2009.13094.
    """
    return TwoBatch(b, gamma)


def svag(b: int, l: float) -> TwoBatch:  # noqa: E741 - the letter of the paper
    """SVAG's gradient: γ = (√(2l−1) − 1)/2, so that (1+γ)² + γ² = l and α is l times SGD's.

    The law alone is not SVAG: also divide the learning rate by l and take l times as many steps.

    Args:
        b: size of each batch.
        l: factor of the noise variance, ≥ 1.

    Returns:
        The law, with two independent batches.

    Raises:
        ValueError: ``l`` < 1.

    Examples:
        >>> round(svag(20, l=8).moments(1000).alpha / MiniBatch(20).moments(1000).alpha, 12)
        8.0

    References:
        Li, Malladi, Arora: "On the validity of modeling SGD with SDEs", arXiv 2102.12470.
    """
    if not l >= 1:
        raise ValueError(f"l must be at least 1, not {l!r}")
    return TwoBatch(b, (math.sqrt(2 * l - 1) - 1) / 2)
