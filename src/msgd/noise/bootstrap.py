"""The Bayesian bootstrap as a law of w."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from msgd._checks import positive_integer
from msgd.noise.law import Law, Sample, batch_size
from msgd.noise.moments import Moments
from msgd.noise.sampling import NO_NOISE, without_noise


@dataclass(frozen=True)
class BayesianBootstrap(Law):
    """The Bayesian bootstrap with total concentration b − 1: ``w = n·Dirichlet((b−1)/n, …, (b−1)/n)``.

    A Dirichlet distribution with total concentration s has Var p_i = (1/n)(1 − 1/n)/(s+1) and
    Cov(p_i, p_j) = −1/(n²(s+1)). With s + 1 = b this gives α = n/b, β = −1/b, as for SGD with replacement. In the limit
    b = 1 a single example has the weight n.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
        >>> BayesianBootstrap(20).moments(1000)
        Moments(alpha=50.0, beta=-0.05)

    References:
        Rubin: "The Bayesian bootstrap", Ann. Stat. 9 (1981).
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        return NO_NOISE if positive_integer("n", n) == 1 else Moments(n / self.b, -1 / self.b)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw dense non-negative weights; at b = 1 a single example (see `Law.sample`)."""
        if positive_integer("n", n) == 1:
            return without_noise(1)
        if self.b == 1:
            return Sample(rng.integers(n, size=1), np.array([float(n)]))
        return Sample(None, n * rng.dirichlet(np.full(n, (self.b - 1) / n)))
