"""Laws that select examples: the full batch, mini-batches, Bernoulli and Poisson sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from msgd._checks import positive_integer
from msgd.noise.law import Law, Sample, batch_size
from msgd.noise.moments import Moments

NO_NOISE = Moments(0.0, 0.0)


def without_noise(n: int) -> Sample:
    """Return w ≡ 1."""
    return Sample(None, np.ones(n))


def subset(n: int, size: int, rng: Generator) -> NDArray[np.int64] | None:
    """Draw a uniformly random subset of ``range(n)``, sorted, in O(size) time and memory if size ≪ n.

    Args:
        n: number of positions to draw from, ≥ 1.
        size: size of the subset, 0 ≤ size ≤ n.
        rng: the source of randomness.

    Returns:
        The positions, or None for all n.
    """
    if size == n:
        return None
    chosen = rng.choice(n, size, replace=False, shuffle=False)
    chosen.sort()
    return chosen


def unique_counts(drawn: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct positions, sorted, and their counts: `numpy.unique` in place, faster for small arrays."""
    drawn.sort()
    same = drawn[1:] == drawn[:-1]
    if not np.count_nonzero(same):  # the usual case if few of many are drawn; any() takes three times as long
        return drawn, np.ones(len(drawn), dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    return drawn[first], np.diff(first, append=len(drawn))


def keep_each(n: int, probability: float, rng: Generator) -> Sample:
    """Keep each example independently, with weight ``1/probability``: draw the number of examples, then the subset."""
    index = subset(n, int(rng.binomial(n, probability)), rng)
    return Sample(index, np.full(n if index is None else len(index), 1 / probability))


@dataclass(frozen=True)
class FullBatch(Law):
    """Gradient descent: ``w = 1``, so α = β = 0.

    Examples:
        >>> FullBatch().moments(1000)
        Moments(alpha=0.0, beta=0.0)
    """

    @property
    def coupled(self) -> bool:
        """False: the weights are constants."""
        return False

    def moments(self, n: int) -> Moments:
        """α = β = 0 (see `Law.moments`)."""
        positive_integer("n", n)
        return NO_NOISE

    def sample(self, n: int, rng: Generator) -> Sample:  # noqa: ARG002 - the signature of every law
        """Return w ≡ 1 (see `Law.sample`)."""
        return without_noise(n)


@dataclass(frozen=True)
class MiniBatch(Law):
    """SGD: weight ``n/b`` on the examples of a random batch of size b, weight 0 elsewhere.

    Without replacement the batch is a uniformly random subset:

        α = n(n−b) / (b(n−1)),    β = −(n−b) / (b(n−1))

    since E w_i² = n/b and E w_i w_j = (n/b)²·b(b−1)/(n(n−1)). With replacement w is n/b times multinomial counts:
    α = n/b, β = −1/b. In both cases Σw = n with probability one, so α + nβ = 0.

    Args:
        b: batch size, an integer; at most n without replacement.
        replacement: draw each example of the batch from all n.

    Raises:
        TypeError: ``b`` is not an integer, or ``replacement`` not a bool.
        ValueError: ``b`` < 1; ``moments`` and ``sample`` also raise it if b > n without replacement.

    Examples:
        >>> round(MiniBatch(20).moments(1000).effective_batch_size(1000), 2)
        20.39

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: int
    replacement: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", positive_integer("b", self.b))
        if not isinstance(self.replacement, bool):
            raise TypeError(f"replacement must be True or False, not {self.replacement!r}")

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        if n == 1:
            return NO_NOISE
        beta = -1 / self.b if self.replacement else -(n - self.b) / (self.b * (n - 1))
        return Moments(-n * beta, beta)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw a batch: the examples in it, sorted, with weights n/b times their counts (see `Law.sample`)."""
        self._check(n)
        if self.replacement:
            index, counts = unique_counts(rng.integers(n, size=self.b))
            return Sample(index, counts.astype(np.float64) * (n / self.b))
        return Sample(subset(n, self.b, rng), np.full(self.b, n / self.b))

    def _check(self, n: int) -> None:
        if positive_integer("n", n) < self.b and not self.replacement:
            raise ValueError(
                f"a mini-batch of b = {self.b} cannot be drawn from n = {n} examples without replacement: "
                "use b ≤ n, replacement=True, or drop the data loader's short last batch (drop_last=True)"
            )


@dataclass(frozen=True)
class Bernoulli(Law):
    """MSGD-Bernoulli: each example is kept independently with probability ``b/n``, and then has the weight ``n/b``.

    Var w_i = (n/b)²·(b/n)(1 − b/n) = n/b − 1, and the weights are independent: α = n/b − 1, β = 0.

    Args:
        b: expected batch size, 1 ≤ b ≤ n, a real number.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1; ``moments`` and ``sample`` also raise it if b > n.

    Examples:
        >>> Bernoulli(20).moments(1000)
        Moments(alpha=49.0, beta=0.0)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    @property
    def coupled(self) -> bool:
        """False: each example is kept independently."""
        return False

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        return Moments(n / self.b - 1, 0.0)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw the examples that are kept, sorted; there may be none (see `Law.sample`)."""
        self._check(n)
        return keep_each(n, self.b / n, rng)

    def _check(self, n: int) -> None:
        if positive_integer("n", n) < self.b:
            raise ValueError(
                f"Bernoulli weights of b = {self.b} need a probability b/n ≤ 1, and n is {n}: use b ≤ n, or Poisson(b)"
            )


@dataclass(frozen=True)
class Poisson(Law):
    """Poisson sampling: ``w_i = (n/b)·Poisson(b/n)`` with independent w_i: α = n/b, β = 0.

    A Poisson(b) number of uniform draws with replacement has exactly these independent counts, so a draw costs O(b).

    Args:
        b: expected batch size, ≥ 1, a real number; it may exceed n.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
        >>> Poisson(20).moments(1000)
        Moments(alpha=50.0, beta=0.0)
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    @property
    def coupled(self) -> bool:
        """False: the counts of different examples are independent."""
        return False

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        return Moments(positive_integer("n", n) / self.b, 0.0)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw examples, sorted, with weights n/b times their counts; there may be none (see `Law.sample`)."""
        drawn = rng.integers(positive_integer("n", n), size=int(rng.poisson(self.b)))
        index, counts = unique_counts(drawn)
        return Sample(index, counts.astype(np.float64) * (n / self.b))
