"""The law that adds the noise of a small batch to a large batch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

from numpy.random import Generator

from msgd._checks import positive_integer
from msgd.noise.injected import gaussian
from msgd.noise.law import Law, Sample, batch_size
from msgd.noise.moments import Moments
from msgd.noise.sampling import NO_NOISE, keep_each, without_noise

Kind = Literal["cov", "fisher", "bernoulli"]


@dataclass(frozen=True)
class Emulate(Law):
    """Noise that makes the losses of a data loader's large batch as noisy as those of a batch of size b.

    A batch of B examples drawn from a population of N already carries sampling noise. This law is drawn at n = B (the
    actual size of each batch, also of a short last one), and its variance parameter α adds only the missing noise, so
    that ``Subsampled(B, Emulate(b))`` has the α of ``MiniBatch(b)``:

        kind="cov"        α = B(B−b) / (b(B−1)),  β = −α/B,  for any population: β matches as well
        kind="fisher"     α = N(B−b) / (b(N−1)),  β = 0;     B/b − 1 with no population
        kind="bernoulli"  the same α, from weights 1/p with probability p = 1/(1+α), else 0

    Setting the α of `Subsampled` equal to that of `MiniBatch` and solving for the inner α gives these formulas. If
    B ≤ b, no noise is missing: w = 1, and ``sample`` issues a warning.

    Args:
        b: the small batch size whose noise is matched, ≥ 1, a real number.
        kind: "cov" (the default, and the only kind that also matches the small batch along the mean gradient),
            "fisher" or "bernoulli".
        population: N, the number of training examples, used by the last two kinds; None for an infinite stream.

    Raises:
        TypeError: ``b`` or ``population`` is not a number.
        ValueError: ``b`` < 1 or ``kind`` is unknown; ``moments`` and ``sample`` also raise it if the batch is larger
            than the population.

    Examples:
        >>> Emulate(20).moments(250)
        Moments(alpha=11.546184738955823, beta=-0.04618473895582329)

    References:
        Wu et al. 2020, arXiv 1906.07405 (the mini-batch variants of MSGD).
    """

    b: float
    kind: Kind = "cov"
    population: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        if self.population is not None:
            object.__setattr__(self, "population", positive_integer("population", self.population))

    @property
    def coupled(self) -> bool:
        """True for the Cov kind, whose sum of weights is fixed."""
        return self.kind == "cov"

    def moments(self, n: int) -> Moments:
        """Exact α and β at batch size n = B (see `Law.moments`)."""
        alpha = self._alpha(n)
        return Moments(alpha, -alpha / n) if alpha > 0 and self.kind == "cov" else Moments(alpha, 0.0)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw the weights of a batch of size n = B (see `Law.sample`)."""
        alpha = self._alpha(n)
        if alpha == 0:
            if n <= self.b:
                warnings.warn(
                    f"{self!r} adds no noise to a batch of {n}, which is no larger than b: use a smaller b, or "
                    "drop_last=True if this is only the short last batch",
                    UserWarning,
                    stacklevel=2,
                )
            return without_noise(n)
        if self.kind == "bernoulli":
            return keep_each(n, 1 / (1 + alpha), rng)
        return Sample(None, gaussian(n, alpha, rng, centred=self.kind == "cov"))

    def _alpha(self, n: int) -> float:
        B, b, N = positive_integer("n", n), self.b, self.population
        if N is not None and B > N:
            raise ValueError(
                f"a batch of {B} cannot come from a population of {N}: pass the number of training examples"
            )
        if b >= B:
            return NO_NOISE.alpha
        if self.kind == "cov":
            return B * (B - b) / (b * (B - 1))
        return B / b - 1 if N is None else N * (B - b) / (b * (N - 1))
