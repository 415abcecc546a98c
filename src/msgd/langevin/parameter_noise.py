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

State = dict[str, Tensor]  #: what was measured of C, to be saved with a checkpoint


class ParameterNoise(ABC):
    """Gaussian noise in parameter space: the step is taken along gradient + noise.

    A noise is a frozen dataclass, driven by three methods::

        if noise.refresh_due(step):
            state = noise.measure(model, loss_fn, inputs, targets)
        added = noise.sample(state, parameters, seed=seed, step=step)
        for parameter, values in zip(parameters, added):  # after loss.backward()
            parameter.grad += values

    ``parameters`` are those that require a gradient: ``[p for p in model.parameters() if p.requires_grad]``.
    """

    @abstractmethod
    def refresh_due(self, step: int) -> bool:
        """Whether to measure before this step.

        Args:
            step: the step of training, from 0.

        Returns:
            True where ``measure`` is to be called.
        """

    def measure(
        self, model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, *, chunk: int = CHUNK
    ) -> State:
        """Measure the covariance C of the per-example gradients at the model's parameters.

        Args:
            model: without BatchNorm in train mode or active dropout.
            loss_fn: from outputs and targets to one loss for each example, shape (batch,).
            inputs: of all n training examples, along the first dimension.
            targets: likewise.
            chunk: number of examples whose gradients are held at once: memory grows with chunk·d. The result depends on
                it by rounding only.

        Returns:
            Tensors by name; see the class. They are of C, not yet of C/b.

        Raises:
            TypeError: ``chunk`` is no integer, or the losses are no floating-point tensor.
            ValueError: the examples are coupled or the gradients random; the losses are not one for each example;
                inputs and targets differ in number; ``chunk`` < 1.
        """
        check_uncoupled(model)
        return self._measured(Examples(model, loss_fn, InMemory(inputs, targets, chunk)))

    def sample(
        self, state: State, parameters: Iterable[Tensor], *, seed: int, step: int, stream: int = NOISE
    ) -> tuple[Tensor, ...]:
        """Draw the noise of one step: the same on every call, in every process, and (to rounding) on every device.

        Args:
            state: from `measure`, or from a checkpoint.
            parameters: the trained ones, in the model's order.
            seed: names the stream of noise, 0 ≤ seed < 2⁶⁴.
            step: the step of training, ≥ 0.
            stream: keeps several noises of one seed apart; it is independent of a law's draw with the same stream.

        Returns:
            For each parameter a tensor of its shape and dtype on its device, to be added to its gradient.

        Raises:
            TypeError: a number is no integer.
            ValueError: ``state`` was not measured by this kind of noise, or on other parameters.
        """
        like = list(parameters)
        if not like:
            raise ValueError("no parameters: give those of the model, and an iterator only once")
        sizes = [parameter.numel() for parameter in like]
        rng = generator(seed, step, operator.index(stream) ^ PARAMETER_NOISE)
        try:
            flat = self._sampled(state, sum(sizes), rng)
        except KeyError as missing:
            raise ValueError(
                f"the state has no {missing}: call {type(self).__name__}.measure at the first step, or load its state"
            ) from None
        if len(flat) != sum(sizes):
            raise ValueError(
                f"the state is of {len(flat)} parameters, and these are {sum(sizes)}: "
                "give those with requires_grad, or measure again"
            )
        flat = flat.to(like[0].device, like[0].dtype)
        return tuple(
            part.view(p.shape).to(p.device, p.dtype) for part, p in zip(torch.split(flat, sizes), like, strict=True)
        )

    @abstractmethod
    def _measured(self, examples: Examples) -> State: ...

    @abstractmethod
    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:
        """The noise, shape (d,)."""


def standard_normal(number: int, rng: Generator) -> Tensor:
    """Draw independent standard normals, shape (number,), float64."""
    return torch.from_numpy(rng.standard_normal(number))
