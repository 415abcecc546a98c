"""No noise at all: penalties on gradient norms, the explanation of SGD by its modified loss."""

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
        """The gradient of the penalised objective, by double backward.

        Args:
            model: at whose parameters it is taken.
            loss_fn: from outputs and targets to one loss for each example, shape (batch,).
            inputs: of all n training examples, along the first dimension.
            targets: likewise.
            seed: names the partition into batches, 0 ≤ seed < 2⁶⁴; where there is none it is not used.
            step: the step of training, ≥ 0: each has a partition of its own.
            stream: keeps several partitions of one seed apart.
            chunk: number of examples computed at once where no batch says it; it changes rounding only.

        Returns:
            For each parameter with ``requires_grad`` a tensor of its shape, to step along in the gradient's place.

        Raises:
            TypeError: a number is no integer, or the losses are no floating-point tensor.
            ValueError: the losses are not one for each example, inputs and targets differ in number, or a number is out
                of range; and as the class says.
        """


@dataclass(frozen=True)
class MiniBatchPenalty(Penalty):
    """Penalty on the gradients of mini-batches: the objective is ``L + (λ/4)·Σ_k (|B_k|/n)·‖∇L_{B_k}‖²``.

    The B_k are a uniformly random partition of the n examples into batches of b, a new one at every step. Where b does
    not divide n the last batch is short; each batch counts by its size, so that every example counts alike and a batch
    of one example, whose gradient is long, does not count like the others. For b | n this is the plain mean, and its
    expectation over partitions is ``‖ḡ‖² + (n − b)/(b(n − 1))·tr C``. At λ = η the objective is SGD's modified loss.

    One batch is held at a time, so BatchNorm and dropout see batches of b, as in SGD.

    Args:
        strength: λ > 0, in units of the learning rate.
        b: batch size, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: ``strength`` is not positive, ``b`` < 1; or, from ``gradient``, b > n.

    Examples:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> penalty = MiniBatchPenalty(strength=0.4, b=1)
        >>> penalty.gradient(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), seed=0, step=0)
        (tensor([[-2.4000]]),)

    References:
        Smith, Dherin, Barrett, De 2021, arXiv 2101.12176. In SGD's place, on fixed batches and by finite differences:
        Geiping, Goldblum, Pope, Moeller, Goldstein 2021, arXiv 2109.14119.
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
        """The gradient of the penalised objective; ``chunk`` plays no part (see `Penalty.gradient`)."""
        examples = Examples(model, loss_fn, InMemory(inputs, targets, chunk))
        if self.b > examples.n:
            raise ValueError(f"{examples.n} examples have no batch of b = {self.b}: use b ≤ {examples.n}")
        order = torch.from_numpy(generator(seed, step, stream).permutation(examples.n)).to(targets.device)
        total = examples.zeros()
        for batch in torch.split(order, self.b):
            share = len(batch) / examples.n
            gradient, curved = examples.curved(inputs[batch], targets[batch], len(batch))
            torch._foreach_add_(total, gradient, alpha=share)
            torch._foreach_add_(total, curved, alpha=share * self.strength / 2)
        return total


@dataclass(frozen=True)
class FullBatchPenalty(Penalty):
    """Penalty on the full gradient: the objective is ``L + (λ/4)·‖∇L‖²``.

    At λ = η it is the modified loss of gradient descent without noise. SGD's, which is `MiniBatchPenalty`, has tr C in
    addition.

    Args:
        strength: λ > 0, in units of the learning rate.

    Raises:
        TypeError: ``strength`` is not a number.
        ValueError: it is not positive; or, from ``gradient``, BatchNorm in train mode or active dropout, with which
            chunks of examples do not add up to L.

    Examples:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> penalty = FullBatchPenalty(strength=0.4)
        >>> penalty.gradient(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), seed=0, step=0)
        (tensor([[-2.4000]]),)

    References:
        Barrett, Dherin 2020, arXiv 2009.11162. An option in the code of Geiping et al. 2021, arXiv 2109.14119, whose
        recipes penalise batches.
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
        """The gradient of the penalised objective, with nothing drawn (see `Penalty.gradient`)."""
        check_uncoupled(model)
        examples = Examples(model, loss_fn, InMemory(inputs, targets, chunk))
        mean = examples.mean_gradient()
        total = tuple(part.clone() for part in mean)
        for index in range(len(examples.data.parts)):
            _, curved = examples.curved(*examples.chunk(index), examples.n, along=mean)
            torch._foreach_add_(total, curved, alpha=self.strength / 2)
        return total
