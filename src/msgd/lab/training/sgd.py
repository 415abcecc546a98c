"""A training step under any law of w, and the evaluation that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.lab.networks.perceptron import Perceptron, log_softmax
from msgd.langevin import State
from msgd.noise import Weights
from msgd.reweighting.weighted_mean import weighted_mean

EVALUATION_CHUNK = 2000  #: examples that are evaluated at a time


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, shape (n,)."""
    probabilities, classes = log_softmax(logits)
    return F.nll_loss(probabilities if classes == 1 else probabilities.t(), targets, reduction="none")


Augment = Callable[[Tensor], Tensor]
Examples = tuple[Tensor, Tensor]  #: inputs and targets


def select_examples(inputs: Tensor, index: Tensor) -> Tensor:
    """The examples at the given positions; images keep their channels-last layout."""
    if inputs.ndim != 4:
        return inputs.index_select(0, index)
    # Four times faster than indexing, which does not copy whole images; index_select alone would lose the layout.
    return inputs.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


@dataclass
class Trainer:
    """A network and its SGD with momentum, driven by weights.

    The update is that of `torch.optim.SGD`, without its overhead, which is a tenth of a step on 20 examples.

    Args:
        model: the network.
        lr: learning rate η.
        momentum: coefficient of the previous step's velocity.
        weight_decay: coefficient of the parameters in the term that is added to the gradient.
        micro_batch: number of examples in memory at a time; the gradients of the parts add up to the gradient of the
            batch.
    """

    model: nn.Module
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.noise: State = {}  # the measured state of the noise in parameter space
        self.momenta: list[Tensor] = []  # one for each parameter, after the first step with momentum

    def step(self, inputs: Tensor, targets: Tensor, weights: Weights, augment: Augment | None = None) -> None:
        """Take one step along −G·w/n (see `gradient`)."""
        self.update(self.gradient(inputs, targets, weights, augment))

    def gradient(
        self, inputs: Tensor, targets: Tensor, weights: Weights, augment: Augment | None = None
    ) -> tuple[Tensor, ...]:
        """Compute G·w/n, one micro-batch at a time, without the examples whose weight is zero.

        Args:
            inputs: the inputs of all n training examples.
            targets: the targets of all n training examples.
            weights: this step's draw; an empty draw has a zero gradient.
            augment: a function that augments the selected inputs; None: no augmentation.

        Returns:
            A tensor for each parameter.
        """
        weights = weights.to(inputs.device)
        if weights.index is not None:
            inputs, targets = select_examples(inputs, weights.index), targets.index_select(0, weights.index)
        if augment is not None:
            inputs = augment(inputs)
        size = self.micro_batch or max(1, len(targets))
        total: tuple[Tensor, ...] = ()
        for start in range(0, max(1, len(targets)), size):
            part = slice(start, start + size)
            share = Weights(None, weights.value[part], weights.n)
            if isinstance(self.model, Perceptron):
                gradients = self.model.gradient(inputs[part], targets[part], share.value, share.n)
            else:
                loss = weighted_mean(losses_of(self.model(inputs[part]), targets[part]), share)
                gradients = torch.autograd.grad(loss, self.parameters)
            if total:
                torch._foreach_add_(total, gradients)
            else:
                total = gradients
        return total

    @torch.no_grad()
    def update(self, gradients: tuple[Tensor, ...]) -> None:
        """Move along a gradient: v ← momentum·v + g + weight_decay·θ, θ ← θ − η·v.

        Args:
            gradients: a tensor for each parameter.
        """
        moves = gradients
        if self.weight_decay:
            moves = torch._foreach_add(moves, self.parameters, alpha=self.weight_decay)
        if self.momentum:
            if self.momenta:
                torch._foreach_mul_(self.momenta, self.momentum)
                torch._foreach_add_(self.momenta, moves)
            else:
                self.momenta = [torch.clone(move) for move in moves]
            moves = tuple(self.momenta)
        torch._foreach_add_(self.parameters, moves, alpha=-self.lr)

    def state(self) -> dict[str, Tensor]:
        """All tensors that training changes, by name."""
        tensors = {f"model.{name}": value.contiguous() for name, value in self.model.state_dict().items()}
        names = [name for name, _ in self.model.named_parameters()]
        tensors |= {f"noise.{name}": value.contiguous() for name, value in self.noise.items()}
        tensors |= {f"momentum.{name}": value.contiguous() for name, value in zip(names, self.momenta, strict=False)}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a state that `state` returned."""
        self.model.load_state_dict(
            {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
        )
        self.noise = {key.removeprefix("noise."): value for key, value in tensors.items() if key.startswith("noise.")}
        if any(key.startswith("momentum.") for key in tensors):
            self.momenta = [
                torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"]).detach()
                for name, parameter in self.model.named_parameters()
            ]


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Compute the accuracy and the mean loss over all given examples, in eval mode.

    Args:
        model: the network; its mode is restored afterwards.
        inputs: the inputs of the examples.
        targets: their classes.

    Returns:
        The accuracy in [0, 1] and the mean cross-entropy.
    """
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=inputs.device)
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for x, y in zip(torch.split(inputs, EVALUATION_CHUNK), torch.split(targets, EVALUATION_CHUNK), strict=True):
        logits = model(x)
        correct += (logits.argmax(1) == y).sum()
        total += losses_of(logits, y).sum(dtype=torch.float64)
    model.train(was_training)
    return correct.item() / len(targets), total.item() / len(targets)
