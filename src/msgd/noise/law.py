"""The interface that every law of the weights implements, and the form of a draw."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from msgd._checks import positive_integer, real_number
from msgd.noise.moments import Moments
from msgd.noise.streams import NOISE, generator


@dataclass(frozen=True, eq=False)
class Sample:
    """A draw as NumPy arrays in float64: the weights ``value`` of the examples ``index`` (None: all n in order)."""

    index: NDArray[np.int64] | None
    value: NDArray[np.float64]

    def dense(self, n: int) -> NDArray[np.float64]:
        """The weights of all n examples, zeros included."""
        if self.index is None:
            return self.value
        dense = np.zeros(n)
        dense[self.index] = self.value
        return dense


@dataclass(frozen=True, eq=False)
class Weights:
    """One draw of w ∈ Rⁿ: the examples whose weight is not zero, and their weights.

    Args:
        index: int64 positions in increasing order, shape (k,); None means all n examples in order.
        value: float32 weights, shape (k,), or (n,) where ``index`` is None.
        n: size of the logical batch; weighted sums are divided by it.

    Examples:
        >>> Weights(torch.tensor([1, 3]), torch.tensor([2.0, 2.0]), n=4).dense()
        tensor([0., 2., 0., 2.])
    """

    index: Tensor | None
    value: Tensor
    n: int

    def dense(self) -> Tensor:
        """Return all n weights, zeros included.

        Returns:
            Tensor of shape (n,), on the device and in the dtype of ``value``.
        """
        if self.index is None:
            return self.value
        return self.value.new_zeros(self.n).index_put_((self.index,), self.value)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Weights:
        """Copy the weights to a device without waiting for the device.

        Args:
            device: the device of the losses.
            dtype: dtype of the values; None keeps the present one.

        Returns:
            The weights on that device, or ``self`` if nothing has to change.
        """
        device = torch.device(device)
        value = _send(self.value, device, dtype or self.value.dtype)
        index = None if self.index is None else _send(self.index, device, torch.int64)
        return self if value is self.value and index is self.index else Weights(index, value, self.n)


def _send(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    # A copy from pageable memory makes the host wait for the device; one from pinned memory does not.
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.to(dtype).pin_memory()
    return tensor.to(device, dtype, non_blocking=True)


class Law(ABC):
    """A law of the random weights w ∈ Rⁿ of the examples, with E w = 1.

    A law is a frozen dataclass that implements two methods: ``moments(n)``, which is exact, and ``sample(n, rng)``,
    which is a pure function of its arguments.
    """

    @property
    def coupled(self) -> bool:
        """Whether the weights of different examples depend on each other."""
        return True

    @property
    def correlated(self) -> bool:
        """Whether draws of different steps depend on each other, or the law changes with the step.

        If so, ``moments`` describes a single step.
        """
        return False

    @abstractmethod
    def moments(self, n: int) -> Moments:
        """Return the exact α and β of ``Cov(w) = α·I + β·11ᵀ`` for n examples.

        Args:
            n: number of examples, ≥ 1.

        Returns:
            The two moments.
        """

    @abstractmethod
    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw w ∈ Rⁿ, with ``rng`` as the only source of randomness.

        Args:
            n: number of examples, ≥ 1.
            rng: the source of randomness; a law composed of other laws passes the same ``rng`` to them.

        Returns:
            The draw, in float64.
        """

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Draw the weights of one step in float64; a law whose steps depend on each other overrides this method.

        Args:
            n: see `draw`.
            seed: see `draw`.
            step: see `draw`.
            stream: see `draw`.

        Returns:
            The draw.
        """
        return self.sample(n, generator(seed, step, stream))

    def draw(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Weights:
        """Draw the weights of one step: the same on every call, in every process.

        Args:
            n: number of examples in the logical batch, ≥ 1.
            seed: seed of the noise, 0 ≤ seed < 2⁶⁴.
            step: the training step, ≥ 0.
            stream: number of an independent random stream; different streams give independent draws for one seed.

        Returns:
            The weights, on the CPU.

        Raises:
            TypeError: ``n`` is not an integer; or ``sample``, in a law of your own, returns no `Sample` of NumPy
                arrays.
            ValueError: a number is out of range.

        Examples:
            >>> from msgd import noise
            >>> noise.MiniBatch(2).draw(6, seed=0, step=0)
            Weights(index=tensor([0, 5]), value=tensor([3., 3.]), n=6)
        """
        drawn = self.at_step(positive_integer("n", n), seed=seed, step=step, stream=stream)
        if not _is_sample(drawn):
            given = "a Sample of tensors" if isinstance(drawn, Sample) else f"a {type(drawn).__name__}"
            raise TypeError(
                f"{type(self).__name__}.sample must return a noise.Sample of NumPy arrays, not {given}: write "
                "Sample(None, w) for all n weights or Sample(index, w) for some, with w.numpy() for a tensor w"
            )
        index = None if drawn.index is None else torch.from_numpy(drawn.index)
        return Weights(index, torch.from_numpy(drawn.value.astype(np.float32)), n)


def _is_sample(drawn: object) -> bool:
    if not isinstance(drawn, Sample) or not isinstance(drawn.value, np.ndarray):
        return False
    return drawn.index is None or isinstance(drawn.index, np.ndarray)


def batch_size(value: float) -> float:
    """Check a nominal batch size, which may be a real number.

    Args:
        value: the batch size.

    Returns:
        The value, as an int if it is an integer, so that ``Fisher(20.0)`` and ``Fisher(20)`` have the same ``repr``.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is below 1 or not finite.
    """
    number = real_number("b", value)
    if math.isnan(number):
        raise ValueError("b must be a number, the batch size whose noise to match, not nan")
    if not 1 <= number < math.inf:
        raise ValueError(f"b must be at least 1 and finite, not {value!r}: it is the batch size whose noise to match")
    return int(number) if number.is_integer() else number
