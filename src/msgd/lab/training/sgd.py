"""A training step under any law of w, with the laboratory's own SGD or an optimizer of torch, and the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msgd.lab.networks.perceptron import Perceptron
from msgd.lab.optimizers.ema import Average
from msgd.lab.optimizers.state import BuiltOptimizer
from msgd.lab.tasks.losses import LossFunction, cross_entropy
from msgd.lab.tasks.objective import Objective
from msgd.langevin import State
from msgd.noise import Weights
from msgd.reweighting.weighted_mean import weighted_mean

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
    """A network and its optimizer, driven by weights.

    Without ``optimizer``, the update is that of `torch.optim.SGD`, without its overhead, which is a tenth of a step on
    20 examples.

    Args:
        model: the network.
        lr: learning rate η.
        momentum: coefficient of the previous step's velocity.
        weight_decay: coefficient of the parameters in the term that is added to the gradient.
        micro_batch: number of examples in memory at a time; the gradients of the parts add up to the gradient of the
            batch.
        loss: the loss of each example.
        optimizer: the optimizer in place of SGD with ``momentum`` and ``weight_decay``.
        average: the average of the parameters over the steps.
    """

    model: nn.Module
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    micro_batch: int | None = None
    loss: LossFunction = cross_entropy
    optimizer: BuiltOptimizer | None = None
    average: Average | None = None

    def __post_init__(self) -> None:
        self.names = [name for name, _ in trainable(self.model)]
        self.parameters: list[Tensor] = [parameter for _, parameter in trainable(self.model)]
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
            if isinstance(self.model, Perceptron) and self.loss is cross_entropy:
                gradients = self.model.gradient(inputs[part], targets[part], share.value, share.n)
            else:
                loss = weighted_mean(self.loss(self.model(inputs[part]), targets[part]), share)
                gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
            # Not in place: autograd may return one tensor for two parameters of a network of the user's own.
            total = tuple(torch._foreach_add(total, gradients)) if total else gradients
        return total

    @torch.no_grad()
    def update(self, gradients: tuple[Tensor, ...]) -> None:
        """Move along a gradient: v ← momentum·v + g + weight_decay·θ, θ ← θ − η·v, or as the optimizer does.

        Args:
            gradients: a tensor for each parameter.
        """
        if self.optimizer is not None:
            self.optimizer.step(self.lr, gradients)
        else:
            self._move(gradients)
        if self.average is not None:
            self.average.update()

    def _move(self, moves: tuple[Tensor, ...]) -> None:
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
        tensors |= {f"noise.{name}": value.contiguous() for name, value in self.noise.items()}
        tensors |= {
            f"momentum.{name}": value.contiguous() for name, value in zip(self.names, self.momenta, strict=False)
        }
        for part in (self.optimizer, self.average):
            tensors |= part.state() if part is not None else {}
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
                for name, parameter in zip(self.names, self.parameters, strict=True)
            ]
        for part in (self.optimizer, self.average):
            if part is not None:
                part.load(tensors)


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that training changes, by name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    objective: Objective | None = None,
    *,
    chunk: int = 2000,
) -> dict[str, float]:
    """Compute the mean loss and the scores over all given examples, in eval mode.

    Args:
        model: the network; its mode is restored afterwards.
        inputs: the inputs of the examples.
        targets: their targets.
        objective: the loss and the scores; None for those of classification.
        chunk: number of examples that are evaluated at a time.

    Returns:
        The loss under the name "loss", and each score under its name, see `Task`.
    """
    objective = objective or Objective()
    was_training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}
    for x, y in zip(torch.split(inputs, chunk), torch.split(targets, chunk), strict=True):
        outputs = model(x)
        values = {**objective.scores(outputs, y), "loss": objective.reported_loss(outputs, y)}
        for name, each in values.items():
            part = each.sum(0, dtype=torch.float64)
            sums[name] = sums[name] + part if name in sums else part
    model.train(was_training)
    n = len(targets)
    return {name: (total.item() if total.ndim == 0 else total.abs().sum().item()) / n for name, total in sums.items()}
