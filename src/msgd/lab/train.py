"""The one training loop: any law of w, one evaluation for all methods, checkpoints that resume bitwise."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.lab import models, runs
from msgd.lab.config import Run
from msgd.lab.data import Data, on_device
from msgd.noise import Weights
from msgd.reweight import weighted_mean

EVALUATION_CHUNK = 2000
STRETCH = 50
FEW = 128  #: examples below which two transposes cost more than they save
ORPHAN_SECONDS = 60  #: a worker whose runner was killed needs at most this to notice


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, shape (n,)."""
    if len(targets) <= FEW or logits.is_cuda:
        return F.cross_entropy(logits, targets, reduction="none")
    # Over ten classes in rows, softmax on a CPU is four times slower than down ten contiguous columns.
    return F.nll_loss(F.log_softmax(logits.t(), 0).t(), targets, reduction="none")


def chosen(inputs: Tensor, index: Tensor) -> Tensor:
    """The examples at the given positions, images in channels-last layout as they were."""
    if inputs.ndim != 4:
        return inputs.index_select(0, index)
    # Four times faster than indexing, which does not copy whole images; index_select alone would lose the layout.
    return inputs.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


@dataclass
class Trainer:
    """A network and its SGD with momentum, driven by weights.

    The update is `torch.optim.SGD`'s, without the code around it, which costs a tenth of a step on 20 examples.

    Args:
        model: the network.
        lr: learning rate η.
        momentum: coefficient of the last step's velocity.
        weight_decay: coefficient of the parameters that is added to the gradient.
    """

    model: nn.Module
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.momenta: list[Tensor] = []  # one for each parameter from the first step with momentum on

    def step(self, inputs: Tensor, targets: Tensor, weights: Weights) -> None:
        """Take one step along −G·w/n; examples of weight zero are never computed.

        Args:
            inputs: of all n training examples.
            targets: of all n training examples.
            weights: this step's draw; an empty one is a zero gradient, and the step is taken.
        """
        weights = weights.to(inputs.device)
        if weights.index is not None:
            inputs, targets = chosen(inputs, weights.index), targets.index_select(0, weights.index)
        loss = weighted_mean(losses_of(self.model(inputs), targets), weights)
        self.update(torch.autograd.grad(loss, self.parameters))

    @torch.no_grad()
    def update(self, gradients: tuple[Tensor, ...]) -> None:
        """Move along a gradient: v ← momentum·v + g + weight_decay·θ, θ ← θ − η·v.

        Args:
            gradients: one for each parameter.
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
        """All tensors that change while training, by name."""
        tensors = {f"model.{name}": value.contiguous() for name, value in self.model.state_dict().items()}
        names = [name for name, _ in self.model.named_parameters()]
        tensors |= {f"momentum.{name}": value.contiguous() for name, value in zip(names, self.momenta, strict=False)}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.model.load_state_dict(
            {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
        )
        if any(key.startswith("momentum.") for key in tensors):
            self.momenta = [
                torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"]).detach()
                for name, parameter in self.model.named_parameters()
            ]


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Accuracy and mean loss over all the given examples, in eval mode.

    Args:
        model: the network; its mode is restored.
        inputs: examples.
        targets: their classes.

    Returns:
        Accuracy in [0, 1] and mean cross-entropy.
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


def train(
    run: Run,
    data: Data,
    folder: Path,
    *,
    device: str,
    environment: dict[str, Any],
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Train one run to its end, or on from its checkpoint, writing to its folder.

    Args:
        run: what to train.
        data: the data set.
        folder: of the run.
        device: "cpu" or "cuda".
        environment: is recorded beside the run.
        go_on: asked every `STRETCH` steps or sooner; False stops the run where it is, to be continued later.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    place = torch.device(device)
    with runs.locked(folder, patience=ORPHAN_SECONDS):
        checkpoint, records = runs.state_of(run, folder)
        runs.keep_records(folder, records)
        if not checkpoint:
            runs.write_identity(run, folder, environment)

        model = models.build(
            run.model,
            input_shape=data.input_shape,
            classes=data.classes,
            seed=run.seed,
            norm=run.norm,
            ghost=run.ghost,
        ).to(place)
        trainer = Trainer(model, run.lr, run.momentum, run.weight_decay)
        train_set = on_device(data.train_inputs, data.train_targets, place)
        test_set = on_device(data.test_inputs, data.test_targets, place)
        done, seconds = 0, 0.0
        if checkpoint:
            trainer.load(checkpoint.tensors)
            done, seconds = checkpoint.step, checkpoint.seconds
        else:
            runs.append_record(folder, _record(0, model, train_set, test_set))

        for stop in _stops(run, done):
            start = time.perf_counter()
            # Drawn for a stretch at once: between two steps the code of a draw is cold, and 4 times slower.
            draws = [run.law.draw(run.n, seed=run.seed, step=step, stream=run.stream) for step in range(done, stop)]
            for weights in draws:
                trainer.step(*train_set, weights)
            seconds += time.perf_counter() - start
            done = stop
            if done in run.evaluations:
                runs.append_record(folder, _record(done, model, train_set, test_set))
            if done % run.checkpoint_every == 0 or done == run.steps:
                runs.write_checkpoint(folder, runs.Checkpoint(done, seconds, trainer.state()))
            if not go_on():
                return


def _stops(run: Run, done: int) -> list[int]:
    """The steps at which training pauses: to evaluate, to save, and at least every `STRETCH` steps."""
    often = range(done - done % STRETCH + STRETCH, run.steps, STRETCH)
    saves = range(0, run.steps, run.checkpoint_every)
    return sorted(stop for stop in {*run.evaluations, *saves, *often} if stop > done)


def _record(
    step: int, model: nn.Module, train_set: tuple[Tensor, Tensor], test_set: tuple[Tensor, Tensor]
) -> runs.Record:
    test_accuracy, test_loss = evaluate(model, *test_set)
    train_accuracy, train_loss = evaluate(model, *train_set)
    values = (test_accuracy, test_loss, train_accuracy, train_loss)
    return {"step": step, **dict(zip(runs.METRICS, values, strict=True))}


def train_in_worker(run: Run, data: Data, folder: Path, device: str, environment: dict[str, Any], parent: int) -> None:
    """Train one run as a job of the runner: on one thread, and no longer than the process that asked for it.

    Args:
        run: as in `train`.
        data: as in `train`.
        folder: as in `train`.
        device: as in `train`.
        environment: as in `train`.
        parent: the runner's process; a worker whose parent was killed ends within `STRETCH` steps.
    """
    torch.set_num_threads(1)

    def orphaned() -> bool:
        return parent not in (os.getpid(), os.getppid())

    train(run, data, folder, device=device, environment=environment, go_on=lambda: not orphaned())
    if orphaned():
        os._exit(1)  # nobody would ever end this worker
