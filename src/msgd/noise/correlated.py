"""Laws whose weights at different steps depend on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from msgd._checks import positive_integer
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import MiniBatch
from msgd.noise.streams import BEFORE_FIRST, FIRST_EPOCH, NOISE, generator


@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int, stream: int) -> NDArray[np.int64]:
    return generator(seed, FIRST_EPOCH + epoch, stream).permutation(n)


@dataclass(frozen=True)
class Reshuffled(Law):
    """SGD with a data loader: each epoch visits a random permutation, b examples per step with weight n/b.

    The last n mod b examples of each permutation are dropped. A single step has the distribution of `MiniBatch(b)`, so
    the **marginal** moments are those of `MiniBatch(b)`. Within an epoch the batches are disjoint, hence negatively
    correlated, and formulas for independent steps do not apply.

    Args:
        b: batch size, an integer, at most n.

    Raises:
        TypeError: ``b`` is not an integer.
        ValueError: ``b`` < 1; ``moments`` and ``draw`` also raise it if b > n.

    Examples:
        >>> epoch = [Reshuffled(2).draw(4, seed=0, step=t).index.tolist() for t in range(2)]
        >>> sorted(epoch[0] + epoch[1])
        [0, 1, 2, 3]
    """

    b: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", positive_integer("b", self.b))

    @property
    def correlated(self) -> bool:
        """True: the steps of an epoch share one permutation."""
        return True

    def moments(self, n: int) -> Moments:
        """Marginal α and β, equal to those of `MiniBatch` (see `Law.moments`)."""
        return MiniBatch(self.b).moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw a single step (see `Law.sample`)."""
        return MiniBatch(self.b).sample(n, rng)

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Return the step's batch in the permutation of its epoch (see `Law.at_step`)."""
        MiniBatch(self.b).moments(n)  # raises if b > n
        generator(seed, step, stream)  # raises if a number is out of range
        epoch, place = divmod(step, n // self.b)
        batch = _permutation(n, seed, epoch, stream)[place * self.b : (place + 1) * self.b]
        return Sample(np.sort(batch), np.full(self.b, n / self.b))


@dataclass(frozen=True)
class Anticorrelated(Law):
    """Anticorrelated noise: ``w_t = 1 + (ξ_t − ξ_{t−1})/√2``, where ξ_t = inner_t − 1 and ξ_{−1} is an extra draw.

    The moments are **marginal**: Cov(w_t) = ½(Cov ξ_t + Cov ξ_{t−1}) equals the covariance of ``inner``. Steps t and
    t+1 have the covariance −½·Cov(inner), and the sum of the noise over the steps telescopes.

    Args:
        inner: a law with independent steps.

    Raises:
        TypeError: ``inner`` is not a law, or its steps are correlated.

    Examples:
        >>> from msgd.noise import Fisher
        >>> Anticorrelated(Fisher(20)).moments(1000)
        Moments(alpha=50.0, beta=0.0)

    References:
        Orvieto, Kersting, Proske, Bach, Lucchi: "Anticorrelated noise injection …", arXiv 2202.02831, Section 2.
    """

    inner: Law

    def __post_init__(self) -> None:
        independent_steps("inner", self.inner)

    @property
    def correlated(self) -> bool:
        """True: each draw of the inner law is used in two steps."""
        return True

    def moments(self, n: int) -> Moments:
        """Marginal α and β, equal to those of the inner law (see `Law.moments`)."""
        return self.inner.moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw a single step, taking both draws of the inner law from ``rng`` (see `Law.sample`)."""
        return self._difference(n, self.inner.sample(n, rng), self.inner.sample(n, rng))

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Combine the inner law's draws of this step and of the previous one (see `Law.at_step`)."""
        last = step - 1 if step > 0 else BEFORE_FIRST
        now, before = (self.inner.at_step(n, seed=seed, step=t, stream=stream) for t in (step, last))
        return self._difference(n, now, before)

    @staticmethod
    def _difference(n: int, now: Sample, before: Sample) -> Sample:
        return Sample(None, 1 + (now.dense(n) - before.dense(n)) / math.sqrt(2))


def independent_steps(name: str, law: Law) -> None:
    """Raise if the argument is not a law with independent steps.

    Args:
        name: name of the argument, for the message.
        law: value of the argument.

    Raises:
        TypeError: ``law`` is not a law, or its steps depend on each other or on the step number.
    """
    if not isinstance(law, Law):
        raise TypeError(f"{name} must be a law such as Fisher(20), not {law!r}")
    if law.correlated:
        raise TypeError(f"{name} must be a law with independent steps, such as Fisher(20), not {law!r}")
