"""Noise that is added to the gradient in parameter space."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from numpy.random import Generator
from torch import Tensor, nn

from msgd._checks import check_uncoupled
from msgd.gradients.chunks import InMemory
from msgd.gradients.per_example import CHUNK, Examples, LossFunction
from msgd.noise import NOISE, generator
from msgd.noise.streams import PARAMETER_NOISE

State = dict[str, Tensor]  #: the quantities measured of C, to be saved in checkpoints


class ParameterNoise(ABC):
    """Gaussian noise in parameter space, which is added to the gradient.

    Each kind of noise is a frozen dataclass, used through three methods::

        if noise.refresh_due(step):
            state = noise.measure(model, loss_fn, inputs, targets)
        added = noise.sample(state, parameters, seed=seed, step=step)
        for parameter, values in zip(parameters, added):  # after loss.backward()
            parameter.grad += values

    ``parameters`` are the trained ones: ``[p for p in model.parameters() if p.requires_grad]``.
    """

    @abstractmethod
    def refresh_due(self, step: int) -> bool:
        """Return whether C has to be measured before this step.

        Args:
            step: the training step, from 0.

        Returns:
            True if ``measure`` has to be called.
        """

    def measure(
        self, model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, *, chunk: int = CHUNK
    ) -> State:
        """Measure the covariance C of the per-example gradients at the model's parameters.

        Args:
            model: a model without BatchNorm in train mode or active dropout.
            loss_fn: maps outputs and targets to one loss per example, shape (batch,).
            inputs: inputs of all n training examples, along the first dimension.
            targets: targets of all n training examples, along the first dimension.
            chunk: number of examples whose gradients are held at once; memory grows with chunk·d. The result depends on
                it only by rounding.

        Returns:
            Tensors by name, described in each class. They refer to C, not to C/b.

        Raises:
            TypeError: ``chunk`` is not an integer, or the losses are not a floating-point tensor.
            ValueError: the examples are coupled or the gradients random; the loss function does not return one loss per
                example; inputs and targets differ in number; or ``chunk`` < 1.
        """
        check_uncoupled(model)
        return self._measure(Examples(model, loss_fn, InMemory(inputs, targets, chunk)))

    def sample(
        self, state: State, parameters: Iterable[Tensor], *, seed: int, step: int, stream: int = NOISE
    ) -> tuple[Tensor, ...]:
        """Draw the noise of one step: the same on every call, in every process, and (to rounding) on every device.

        Args:
            state: the result of `measure`, possibly loaded from a checkpoint.
            parameters: the trained parameters, in the model's order.
            seed: seed of the noise, 0 ≤ seed < 2⁶⁴.
            step: the training step, ≥ 0.
            stream: number of an independent random stream; different streams give independent noise for one seed. The
                noise is independent of a law's draw with the same stream.

        Returns:
            For each parameter a tensor of its shape and dtype on its device, to be added to its gradient.

        Raises:
            TypeError: a number is not an integer.
            ValueError: ``state`` was measured by another kind of noise or for other parameters, or there are no
                parameters.
        """
        like = list(parameters)
        if not like:
            raise ValueError("no parameters: pass those of the model, as a list if they are used more than once")
        sizes = [parameter.numel() for parameter in like]
        rng = generator(seed, step, operator.index(stream) ^ PARAMETER_NOISE)
        try:
            flat = self._sample(state, sum(sizes), rng)
        except KeyError as missing:
            raise ValueError(
                f"the state has no {missing}: call {type(self).__name__}.measure at the first step, or load its state"
            ) from None
        if len(flat) != sum(sizes):
            raise ValueError(
                f"the state has {len(flat)} parameters, not {sum(sizes)}: pass those with requires_grad or measure anew"
            )
        flat = flat.to(like[0].device, like[0].dtype)
        return tuple(
            part.view(p.shape).to(p.device, p.dtype) for part, p in zip(torch.split(flat, sizes), like, strict=True)
        )

    @abstractmethod
    def _measure(self, examples: Examples) -> State: ...

    @abstractmethod
    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:
        """Draw the noise, shape (d,)."""


def standard_normal(number: int, rng: Generator) -> Tensor:
    """Draw independent standard normals, shape (number,), float64."""
    return torch.from_numpy(rng.standard_normal(number))
