"""The law that adds the noise of a small batch to the batches of a shuffled data loader, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from msgd._checks import positive_integer
from msgd.noise.distributions import Normal, ScalarLaw
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import MiniBatch, subset
from msgd.noise.streams import FIRST_EPOCH, NOISE, generator

Integers = NDArray[np.int64]
Array = NDArray[np.float64]

NORMAL = Normal()
ROUNDING = 1e-15  #: the projection ends when the sums of the batches are this small, relative to the first ones
KEPT_BYTES = 2**26  #: memory of the small epochs that are kept; the last two are kept whatever their size


@dataclass(frozen=True)
class EmulateReshuffled(Law):
    """A shuffled loader with batches of B, made as noisy as a shuffled loader with batches of b.

    Over an epoch the noise of a shuffled loader cancels in part, because every example is visited once. `Emulate(b)`
    has independent steps and does not reproduce that. Here k = B/b epochs of the large batches make one small epoch,
    with as many steps as an epoch of `Reshuffled(b)`. Let M = n/B. Each of the k epochs has a random partition into M
    batches, and each example i one number z_i(e) of `scalar_law` in each epoch e. On the batch of epoch e

        w_i = (n/B)·(1 + σ·(Πz)_i(e)),    w_i = 0 elsewhere

    where Π projects onto the arrays whose sum over each batch is 0, and whose sum over the k epochs is 0 for each
    example. So the weights of a batch sum to n, as in `Emulate`, and those of an example sum to the same number in each
    small epoch, as in `Reshuffled(b)`. With σ² = (k − 1)·nk/rank Π, the mean of σ²Π_ii is k − 1. Hence, over partitions
    and numbers, with T = n/b steps t, s of one small epoch and i ≠ j, exactly as in `Reshuffled(b)`:

        Var w_i(t) = T − 1,                    Cov(w_i(t), w_i(s)) = −1
        Cov(w_i(t), w_j(t)) = −(T−1)/(n−1),    Cov(w_i(t), w_j(s)) = 1/(n−1)

    for Var w_i(t) = M·(1 + k − 1) − 1; within one epoch w_i(t)·w_i(s) = 0; in two epochs the k values of an example sum
    to 0, so that their covariance is −σ²Π_ii/(k−1), which is −1 on average. The other two follow because every batch
    sums to n. rank Π = nk − n − kM + c, where c is the number of connected components of the graph of batches in which
    two batches are joined if they share an example; c is almost always 1.

    Second moments over an epoch fix the noise to leading order in η·T, the learning rate times the steps of an epoch.
    Products of three weights differ from those of `Reshuffled(b)`: let v = w·B/n be the weights of an example within
    its batches. In `Reshuffled(b)` the mean of v(e)²·v(e') is 0 for e ≠ e', and here, but for the centring over
    batches, it is (k − 2)·(1 − γ/√k) with γ the skewness of `scalar_law`. So ``Gamma(4 * b / B)``, whose skewness is
    √k, matches it. On least squares with curvature 1 SGD settles at the same loss as with `Reshuffled(b)` at η·T = 1.
    At η·T = 4 its loss is 4% lower with normal numbers, and within 2% with that Gamma law. For networks the emulation
    is approximate; the page on large batches has numbers.

    If B does not divide n, the same n mod B random examples have the weight 0 during one small epoch, of k·⌊n/B⌋ steps,
    and others in the next. The four formulas still hold, with T = n/b.

    The weights belong to numbered examples, so use the law with a `WeightedBatchSampler`, which loads the B examples of
    each step. The first draw of a small epoch computes all of it, in O(nk) memory and time.

    Args:
        B: size of the batches, an integer multiple of b, at most n.
        b: the small batch size whose noise is matched, an integer; with b = B the law is `Reshuffled(B)`.
        scalar_law: the distribution of the numbers z, of variance 1.

    Raises:
        TypeError: ``B`` or ``b`` is not an integer, or ``scalar_law`` is no scalar law.
        ValueError: ``B`` or ``b`` is below 1, B is no multiple of b, or ``scalar_law`` has another variance than 1;
            ``moments`` and ``draw`` also raise it if B > n.

    Examples:
        >>> law = EmulateReshuffled(6, 2)  # 3 epochs of 2 steps are an epoch of 6 steps with batches of 2
        >>> epoch = np.array([law.at_step(12, seed=0, step=t).dense(12) for t in range(6)])
        >>> epoch.sum(0).round(12).tolist() == [6.0] * 12, epoch.sum(1).round(12).tolist() == [12.0] * 6
        (True, True)

    References:
        Wu et al. 2020, arXiv 1906.07405 (Gaussian weights in place of batches).
    """

    B: int
    b: int
    scalar_law: ScalarLaw = NORMAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "B", positive_integer("B", self.B))
        object.__setattr__(self, "b", positive_integer("b", self.b))
        if self.B % self.b:
            raise ValueError(
                f"B = {self.B} is no multiple of b = {self.b}: an epoch with batches of b must be a whole number of "
                "epochs with batches of B, so choose b among the divisors of B"
            )
        if not isinstance(self.scalar_law, ScalarLaw):
            raise TypeError(f"scalar_law must be a ScalarLaw such as Normal(), not {self.scalar_law!r}")
        if not math.isclose(self.scalar_law.variance, 1):
            raise ValueError(
                f"{self.scalar_law!r} has the variance {self.scalar_law.variance:g}: use a scalar law of variance 1, "
                "such as Normal(), Gamma(shape) or StudentT(df) with df > 2"
            )

    @property
    def correlated(self) -> bool:
        """True: the steps of a small epoch depend on each other."""
        return True

    def moments(self, n: int) -> Moments:
        """Marginal α and β, equal to those of `MiniBatch(b)` (see `Law.moments`)."""
        self._check(n)
        return MiniBatch(self.b).moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw a small epoch and return its first step, at the cost of the epoch (see `Law.sample`)."""
        self._check(n)
        return _draw(self, n, rng).step(0)

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Return the step's batch and weights in the draw of its small epoch (see `Law.at_step`)."""
        self._check(n)
        generator(seed, step, stream)  # raises if a number is out of range
        epoch, place = divmod(step, n // self.B * (self.B // self.b))
        return _small_epoch(self, n, seed, epoch, stream).step(place)

    def _check(self, n: int) -> None:
        if positive_integer("n", n) < self.B:
            raise ValueError(
                f"a shuffled loader of n = {n} examples has no batch of B = {self.B}: use B ≤ n, and draw over the "
                "whole data set, with a WeightedBatchSampler"
            )


@dataclass(frozen=True, eq=False)
class _SmallEpoch:
    """The examples and weights of all steps, each of shape (kM, B)."""

    index: Integers
    value: Array

    def step(self, place: int) -> Sample:
        return Sample(self.index[place].copy(), self.value[place].copy())

    @property
    def bytes(self) -> int:
        return self.index.nbytes + self.value.nbytes


_kept: dict[tuple[EmulateReshuffled, int, int, int, int], _SmallEpoch] = {}  # the last used one is at the end


def _small_epoch(law: EmulateReshuffled, n: int, seed: int, epoch: int, stream: int) -> _SmallEpoch:
    """Draw a small epoch, or take it from the ones that are kept."""
    key = (law, n, seed, epoch, stream)
    drawn = _kept.pop(key, None)
    if drawn is None:
        drawn = _draw(law, n, generator(seed, FIRST_EPOCH + epoch, stream))
        room = KEPT_BYTES - drawn.bytes - sum(one.bytes for one in list(_kept.values()))
        for oldest in list(_kept)[:-1]:  # a loader that prefetches goes back and forth between two epochs
            if room >= 0:
                break
            if (gone := _kept.pop(oldest, None)) is not None:
                room += gone.bytes
    _kept[key] = drawn
    return drawn


def _draw(law: EmulateReshuffled, n: int, rng: Generator) -> _SmallEpoch:
    B, k, M = law.B, law.B // law.b, n // law.B
    kept = subset(n, M * B, rng)
    orders = np.array([rng.permutation(M * B) for _ in range(k)])
    index = np.sort(orders.reshape(k * M, B), axis=1)  # positions among the kept examples
    value = np.full((k * M, B), n / B)
    if k > 1:
        batch = np.empty((k, M * B), dtype=np.int64)  # the number of the batch of each example in each epoch
        np.put_along_axis(batch, index.reshape(k, M * B), np.arange(k * M).repeat(B).reshape(k, M * B), axis=1)
        z = _project(law.scalar_law.sample(k * M * B, rng).reshape(k, M * B), batch)
        sigma = math.sqrt((k - 1) * z.size / _rank(batch))
        value *= 1 + sigma * np.take_along_axis(z, index.reshape(k, M * B), axis=1).reshape(k * M, B)
    return _SmallEpoch(index if kept is None else kept[index], value)


def _project(z: Array, batch: Integers) -> Array:
    """Project onto the arrays that sum to 0 over each batch, and over the epochs for each example.

    Let R centre each example over the epochs, and let D sum over each batch. Rz is already of the second kind. Among
    those arrays the projection is ``Rz − R·Dᵀx`` with ``D·R·Dᵀ·x = D·R·z``, which conjugate gradients solve. The matrix
    is B·(I − N·Nᵀ/(kB)), with N the incidence of batches and examples. For random partitions it is close to B·(1 − 1/k)
    times a projection, so about ten iterations are enough. All sums are NumPy's, which do not depend on the number of
    threads.

    Args:
        z: an array of shape (k, n).
        batch: number of the batch of each entry, shape (k, n), from 0 to kM − 1; the epochs have different batches.

    Returns:
        The projection, shape (k, n).
    """
    labels, count = batch.ravel(), int(batch.max()) + 1

    def sums(values: Array) -> Array:
        found: Array = np.bincount(labels, weights=values.ravel(), minlength=count).astype(np.float64, copy=False)
        return found

    def spread(x: Array) -> Array:
        values: Array = x[batch]
        values -= values.mean(0)
        return values

    z = z - z.mean(0)
    residual = sums(z)
    x, direction = np.zeros(count), residual
    square = (residual**2).sum()
    end = ROUNDING**2 * square
    for _ in range(10 * count):  # exact after ``count`` iterations but for rounding
        if square <= end:
            break
        image = sums(spread(direction))
        length = square / (direction * image).sum()
        x = x + length * direction
        residual = residual - length * image
        before, square = square, (residual**2).sum()
        direction = residual + square / before * direction
    projected: Array = z - spread(x)
    return projected


def _rank(batch: Integers) -> int:
    """Dimension of the space onto which `_project` projects: nk − n − kM + c."""
    k, n = batch.shape
    count = int(batch.max()) + 1
    joined = (np.ones(n * (k - 1), dtype=bool), (np.tile(batch[0], k - 1), batch[1:].ravel()))
    components = int(connected_components(coo_array(joined, shape=(count, count)), directed=False)[0])
    return int(n * k - n - count + components)
