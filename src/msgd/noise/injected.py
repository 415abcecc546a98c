"""Laws that perturb the weights: w = 1 + noise, on all examples or on a random subset."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from msgd._checks import positive_integer
from msgd.noise.distributions import BLOCK, Normal, ScalarLaw
from msgd.noise.law import Law, Sample, Weights, batch_size
from msgd.noise.moments import Moments
from msgd.noise.sampling import NO_NOISE, subset
from msgd.noise.streams import NOISE, generator


def gaussian(n: int, variance: float, rng: Generator, *, centred: bool) -> NDArray[np.float64]:
    """Draw ``1 + √variance·ε``, or ``1 + √variance·(ε − ε̄)``, whose mean is exactly 1, with ε ~ N(0, I_n)."""
    return _perturb(rng.standard_normal(n), math.sqrt(variance), centred=centred)


def _perturb(noise: NDArray[np.float64], scale: float, *, centred: bool) -> NDArray[np.float64]:
    mean = noise.mean() if centred else None
    for start in range(0, len(noise), BLOCK):
        part = noise[start : start + BLOCK]
        if mean is not None:
            part -= mean
        part *= scale
        part += 1.0
    return noise


@dataclass(frozen=True)
class Injected(Law):
    """Noise of any scalar distribution: ``w = 1 + σ·ε`` on a random m-subset S (all n without ``support``), else 1.

    With v = Var ε (1 for a standardised distribution) and independent ε_i:

    - not centred: σ² = n²/(bm), and n/b without support. Var w_i = (m/n)·σ²v = nv/b, E ε_i ε_j = 0: α = nv/b, β = 0;
    - centred, ε − ε̄ over S: σ² = n(n−1)/(b(m−1)), and n/b without support. Cov(ε − ε̄) = v(I − 11ᵀ/m) within S, so
      Cov(w_i, w_j) = (m(m−1)/(n(n−1)))·σ²·(−v/m) = −v/b, and α = nv/b, β = −v/b.

    The gradient of every example is computed: an example without noise has the weight 1, not 0.

    Args:
        scalar_law: the distribution of ε.
        b: batch size whose noise is matched (for v = 1), ≥ 1, a real number.
        centred: subtract the mean of ε, so that Σw = n exactly and SGD's β is matched as well.
        support: m, the number of examples with noise; None for all.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``b`` < 1; ``support`` < 1, or < 2 if centred; ``moments`` and ``sample`` also raise it if
            ``support`` exceeds n.

    Examples:
        >>> from msgd.noise import Laplace
        >>> Injected(Laplace(), 20, centred=True).moments(1000)
        Moments(alpha=50.0, beta=-0.05)

    References:
        Wu et al. 2020, arXiv 1906.07405 (Gaussian ε; MSGD-[Fisher-m] and MSGD-[Cov-m] with support).
    """

    scalar_law: ScalarLaw
    b: float
    centred: bool = False
    support: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scalar_law, ScalarLaw):
            raise TypeError(f"scalar_law must be a ScalarLaw such as Normal(), not {self.scalar_law!r}")
        if not isinstance(self.centred, bool):
            raise TypeError(f"centred must be True or False, not {self.centred!r}")
        object.__setattr__(self, "b", batch_size(self.b))
        if self.support is not None:
            object.__setattr__(self, "support", positive_integer("support", self.support))
            if self.centred and self.support == 1:
                raise ValueError("support must be at least 2 for centred noise: a single centred number is always 0")

    @property
    def coupled(self) -> bool:
        """True unless the noise is on all examples and not centred: only then are the weights independent."""
        return self.centred or self.support is not None

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        self._check(n)
        v = self.scalar_law.variance
        if not self.centred:
            return Moments(n / self.b * v, 0.0)
        return NO_NOISE if n == 1 else Moments(n / self.b * v, -v / self.b)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw dense weights; with support the subset is drawn first (see `Law.sample`)."""
        self._check(n)
        if self.support is None:
            noise = self.scalar_law.sample(n, rng)
            return Sample(None, _perturb(noise, math.sqrt(n / self.b), centred=self.centred))
        m = self.support
        scale = math.sqrt(n * (n - 1) / (self.b * (m - 1)) if self.centred else n**2 / (self.b * m))
        chosen = subset(n, m, rng)
        noisy = _perturb(self.scalar_law.sample(m, rng), scale, centred=self.centred)
        if chosen is None:
            return Sample(None, noisy)
        value = np.ones(n)
        value[chosen] = noisy
        return Sample(None, value)

    def draw(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Weights:
        """Draw as `Law.draw` does, but large independent draws in blocks, so that no full float64 array is held."""
        if self.coupled or positive_integer("n", n) <= BLOCK:
            return super().draw(n, seed=seed, step=step, stream=stream)
        rng, value, scale = generator(seed, step, stream), np.empty(n, dtype=np.float32), math.sqrt(n / self.b)
        for start in range(0, n, BLOCK):
            part = value[start : start + BLOCK]
            part[:] = _perturb(self.scalar_law.sample(len(part), rng), scale, centred=False)
        return Weights(None, torch.from_numpy(value), n)

    def _check(self, n: int) -> None:
        if positive_integer("n", n) < (self.support or 1):
            raise ValueError(f"a support of m = {self.support} cannot be drawn from n = {n} examples: use m ≤ n")


class _InjectedCase(Law):
    """A law that is a special case of `Injected`."""

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", self.injected.b)  # checked there

    @property
    @abstractmethod
    def injected(self) -> Injected:
        """The same law in the general form."""

    @property
    def coupled(self) -> bool:
        """Whether the weights of different examples depend on each other, as for the general form."""
        return self.injected.coupled

    def moments(self, n: int) -> Moments:
        """Exact α and β (see `Law.moments`)."""
        return self.injected.moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw dense Gaussian weights (see `Law.sample`)."""
        return self.injected.sample(n, rng)

    def draw(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Weights:
        """Draw the weights of one step by the general form (see `Law.draw`)."""
        return self.injected.draw(n, seed=seed, step=step, stream=stream)


@dataclass(frozen=True)
class Fisher(_InjectedCase):
    """MSGD-Fisher: ``w = 1 + √(n/b)·ε`` with ε ~ N(0, I_n): α = n/b, β = 0.

    The gradient noise has the covariance F/b with the empirical Fisher matrix F, which is SGD's covariance plus ḡḡᵀ/b.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number; it may exceed n.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
        >>> Fisher(20).moments(1000).effective_batch_size(1000)
        20.0

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float

    @property
    def injected(self) -> Injected:
        """The same law in the general form."""
        return Injected(Normal(), self.b)


@dataclass(frozen=True)
class Cov(_InjectedCase):
    """MSGD-Cov: ``w = 1 + √(n/b)·(ε − ε̄)`` with ε ~ N(0, I_n): α = n/b, β = −1/b.

    Cov(ε − ε̄) = I − 11ᵀ/n, so the gradient noise has the covariance C/b, exactly that of SGD with replacement.
    Σw = n exactly; at n = 1 there is no noise and α = β = 0.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number; it may exceed n.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
        >>> Cov(20).moments(1000)
        Moments(alpha=50.0, beta=-0.05)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float

    @property
    def injected(self) -> Injected:
        """The same law in the general form."""
        return Injected(Normal(), self.b, centred=True)


@dataclass(frozen=True)
class SparseFisher(_InjectedCase):
    """MSGD-[Fisher-m]: ``w = 1 + σ·ε`` on a random m-subset, else 1, with σ² = n²/(bm): α = n/b, β = 0.

    `Injected` has the derivation. Only the noise is sparse: the gradient of every example is computed.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        support: m, the number of examples with noise, at most n.

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``b`` < 1 or ``support`` < 1; ``moments`` and ``sample`` also raise it if ``support`` exceeds n.

    Examples:
        >>> SparseFisher(20, support=100).moments(1000)
        Moments(alpha=50.0, beta=0.0)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float
    support: int = field(kw_only=True)

    @property
    def injected(self) -> Injected:
        """The same law in the general form."""
        return Injected(Normal(), self.b, support=self.support)


@dataclass(frozen=True)
class SparseCov(_InjectedCase):
    """MSGD-[Cov-m]: `SparseFisher` with ε centred on the subset, σ² = n(n−1)/(b(m−1)): α = n/b, β = −1/b.

    `Injected` has the derivation. Σw = n exactly.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        support: m, the number of examples with noise, from 2 to n.

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``b`` < 1 or ``support`` < 2; ``moments`` and ``sample`` also raise it if ``support`` exceeds n.

    Examples:
        >>> SparseCov(20, support=100).moments(1000)
        Moments(alpha=50.0, beta=-0.05)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    b: float
    support: int = field(kw_only=True)

    @property
    def injected(self) -> Injected:
        """The same law in the general form."""
        return Injected(Normal(), self.b, centred=True, support=self.support)
