"""Laws composed of other laws: a law within a random large batch, and a law within each group of a partition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from msgd._checks import positive_integer
from msgd.noise.correlated import independent_steps
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import subset


@dataclass(frozen=True)
class Subsampled(Law):
    """[MSGD-X]-B: ``n/B`` on a random subset of B examples, times weights that ``inner`` draws over the subset.

    With a, c the α, β of ``inner`` at size B: E w_i² = (n/B)(1 + a + c), and
    E w_i w_j = (n/B)²·B(B−1)/(n(n−1))·(1 + c), hence

        β = (n(B−1) / (B(n−1)))·(1 + c) − 1,    α = (n/B)(1 + a + c) − 1 − β

    Args:
        B: size of the large batch, an integer, at most n.
        inner: the law of the weights within the batch.

    Raises:
        TypeError: ``B`` is not an integer, or ``inner`` is not a law with independent steps.
        ValueError: ``B`` < 1; ``moments`` and ``sample`` also raise it if B > n.

    Examples:
        >>> from msgd.noise import Emulate
        >>> law = Subsampled(250, Emulate(20))
        >>> round(law.moments(1000).effective_batch_size(1000), 2)  # equal to that of MiniBatch(20)
        20.39

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    B: int
    inner: Law

    def __post_init__(self) -> None:
        object.__setattr__(self, "B", positive_integer("B", self.B))
        independent_steps("inner", self.inner)

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        inner, B = self.inner.moments(self.B), self.B
        if n == B:  # the subset is the whole set; a separate case because the general formula is 0/0 at n = 1
            return inner
        beta = n * (B - 1) / (B * (n - 1)) * (1 + inner.beta) - 1
        return Moments(n / B * (1 + inner.variance) - 1 - beta, beta)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw the subset, then the inner weights, both from ``rng`` (see `Law.sample`)."""
        self._check(n)
        index = subset(n, self.B, rng)
        inner = self.inner.sample(self.B, rng)
        if index is None:
            return inner
        return Sample(index if inner.index is None else index[inner.index], inner.value * (n / self.B))

    def _check(self, n: int) -> None:
        if positive_integer("n", n) < self.B:
            raise ValueError(f"a batch of B = {self.B} cannot be drawn from n = {n} examples: use B ≤ n")


@dataclass(frozen=True)
class Grouped(Law):
    """A law drawn separately in each group of ``size`` examples of a random partition, such as ghost batches.

    Within a group the weights follow ``inner``; weights of different groups are independent. With a, c the α, β of
    ``inner`` at the group's size g, and since two examples share a group with probability (g−1)/(n−1):

        β = c·(g−1)/(n−1),    α = a + c − β

    If ``inner`` is centred, the weights are centred over each group instead of over the batch: the sum over each group
    is fixed, and so is the sum over the batch. The partition is drawn from ``rng``. If the order of the examples is
    already random, consecutive groups would have the same law.

    Args:
        size: g, the number of examples in a group; it must divide n.
        inner: the law of the weights within a group.

    Raises:
        TypeError: ``size`` is not an integer, or ``inner`` is not a law with independent steps.
        ValueError: ``size`` < 1; ``moments`` and ``sample`` also raise it if ``size`` does not divide n.

    Examples:
        >>> from msgd.noise import Cov
        >>> law = Grouped(100, Cov(2))  # centred per group of 100, not over all 1000
        >>> round(law.moments(1000).effective_batch_size(1000), 2)
        20.18

    References:
        Wu et al. 2020, arXiv 1906.07405: the released code centres per ghost batch (Hoffer et al. 2017,
        arXiv 1705.08741).
    """

    size: int
    inner: Law

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", positive_integer("size", self.size))
        independent_steps("inner", self.inner)

    @property
    def coupled(self) -> bool:
        """Whether ``inner`` couples weights, provided that a group has more than one example."""
        return self.size > 1 and self.inner.coupled

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        inner = self.inner.moments(self.size)
        if n == self.size:
            return inner
        beta = inner.beta * (self.size - 1) / (n - 1)
        return Moments(inner.variance - beta, beta)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw the partition, then the weights of each group (see `Law.sample`)."""
        self._check(n)
        groups = rng.permutation(n).reshape(-1, self.size)
        w = np.zeros(n)
        for group in groups:
            w[group] = self.inner.sample(self.size, rng).dense(self.size)
        index = np.flatnonzero(w)
        return Sample(None, w) if len(index) == n else Sample(index, w[index])

    def _check(self, n: int) -> None:
        if positive_integer("n", n) % self.size:
            raise ValueError(f"{n} examples cannot be split into groups of {self.size}: use a size that divides n")
