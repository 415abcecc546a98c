"""Penalties on gradient norms, which replace the noise of SGD by its modified loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msgd._checks import check_uncoupled, positive, positive_integer
from msgd.gradients.chunks import InMemory
from msgd.gradients.per_example import CHUNK, Examples, LossFunction
from msgd.noise import NOISE, generator


class Penalty(ABC):
    """A penalty on squared gradient norms, added to the mean loss L."""

    @abstractmethod
    def gradient(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        *,
        seed: int,
        step: int,
        stream: int = NOISE,
        chunk: int = CHUNK,
    ) -> tuple[Tensor, ...]:
        """Return the gradient of the penalised objective, computed by double backward.

        Args:
            model: the model, whose current parameters are used.
            loss_fn: maps outputs and targets to one loss per example, shape (batch,).
            inputs: inputs of all n training examples, along the first dimension.
            targets: targets of all n training examples, along the first dimension.
            seed: seed of the partition into batches, 0 ≤ seed < 2⁶⁴; unused without a partition.
            step: the training step, ≥ 0; each step has its own partition.
            stream: number of an independent random stream; different streams give independent partitions for one seed.
            chunk: number of examples processed at once if there are no batches; it affects only rounding.

        Returns:
            For each parameter with ``requires_grad`` a tensor of its shape, to be used in place of the gradient.

        Raises:
            TypeError: a number is not an integer, or the losses are not a floating-point tensor.
            ValueError: the loss function does not return one loss per example, inputs and targets differ in number, a
                number is out of range, or a condition of the class is violated.
        """


@dataclass(frozen=True)
class MiniBatchPenalty(Penalty):
    """Penalty on the gradients of mini-batches: the objective is ``L + (λ/4)·Σ_k (|B_k|/n)·‖∇L_{B_k}‖²``.

    The B_k form a uniformly random partition of the n examples into batches of size b, drawn anew at every step. If b
    does not divide n, the last batch is short. Batches are weighted by their sizes, so that all examples have the same
    weight, and a very short batch, whose gradient is large, does not have the weight of a full one. For b | n the sum
    is the plain mean over batches, with expectation ``‖ḡ‖² + (n − b)/(b(n − 1))·tr C`` over partitions. At λ = η the
    objective is SGD's modified loss.

    One batch is processed at a time, so BatchNorm and dropout see batches of size b, as in SGD.

    Args:
        strength: λ > 0, in units of the learning rate.
        b: batch size, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``strength`` is not positive or ``b`` < 1; ``gradient`` also raises it if b > n.

    Examples:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> penalty = MiniBatchPenalty(strength=0.4, b=1)
        >>> penalty.gradient(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), seed=0, step=0)
        (tensor([[-2.4000]]),)

    References:
        Smith, Dherin, Barrett, De 2021, arXiv 2101.12176. As a replacement of SGD, on fixed batches and with finite
        differences: Geiping, Goldblum, Pope, Moeller, Goldstein 2021, arXiv 2109.14119.
    """

    strength: float
    b: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", positive("strength", self.strength))
        object.__setattr__(self, "b", positive_integer("b", self.b))

    def gradient(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        *,
        seed: int,
        step: int,
        stream: int = NOISE,
        chunk: int = CHUNK,
    ) -> tuple[Tensor, ...]:
        """Return the gradient of the penalised objective; ``chunk`` has no effect (see `Penalty.gradient`)."""
        examples = Examples(model, loss_fn, InMemory(inputs, targets, chunk))
        if self.b > examples.n:
            raise ValueError(f"a batch of b = {self.b} needs more than {examples.n} examples: use b ≤ {examples.n}")
        order = torch.from_numpy(generator(seed, step, stream).permutation(examples.n)).to(targets.device)
        total = examples.zeros()
        for batch in torch.split(order, self.b):
            share = len(batch) / examples.n
            gradient, curved = examples.gradient_and_hvp(inputs[batch], targets[batch], len(batch))
            torch._foreach_add_(total, gradient, alpha=share)
            torch._foreach_add_(total, curved, alpha=share * self.strength / 2)
        return total


@dataclass(frozen=True)
class FullBatchPenalty(Penalty):
    """Penalty on the full gradient: the objective is ``L + (λ/4)·‖∇L‖²``.

    At λ = η it is the modified loss of gradient descent without noise. The modified loss of SGD, `MiniBatchPenalty`,
    has an additional term in tr C.

    Args:
        strength: λ > 0, in units of the learning rate.

    Raises:
        TypeError: ``strength`` is not a number.
        ValueError: ``strength`` is not positive. ``gradient`` also raises it for BatchNorm in train mode or active
            dropout, since the losses of chunks would not add up to L.

    Examples:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> penalty = FullBatchPenalty(strength=0.4)
        >>> penalty.gradient(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), seed=0, step=0)
        (tensor([[-2.4000]]),)

    References:
        Barrett, Dherin 2020, arXiv 2009.11162. The code of Geiping et al. 2021, arXiv 2109.14119, has it as an option;
        their recipes penalise batches.
    """

    strength: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", positive("strength", self.strength))

    def gradient(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        *,
        seed: int,  # noqa: ARG002
        step: int,  # noqa: ARG002
        stream: int = NOISE,  # noqa: ARG002
        chunk: int = CHUNK,
    ) -> tuple[Tensor, ...]:
        """Return the gradient of the penalised objective, which is not random (see `Penalty.gradient`)."""
        check_uncoupled(model)
        examples = Examples(model, loss_fn, InMemory(inputs, targets, chunk))
        mean = examples.mean_gradient()
        total = tuple(part.clone() for part in mean)
        for index in range(len(examples.data.parts)):
            _, curved = examples.gradient_and_hvp(*examples.chunk(index), examples.n, along=mean)
            torch._foreach_add_(total, curved, alpha=self.strength / 2)
        return total
