"""Training steps: draw the weights, compute the gradient, update the parameters."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from msgd.lab.data.augment import crop_and_flip
from msgd.lab.errors import UserError
from msgd.lab.optimizers.clip import clip_gradients
from msgd.lab.optimizers.sam import climb, restore
from msgd.lab.plan.run import Run
from msgd.lab.training.data_parallel import (
    own_part,
    process_count,
    rank,
    sum_over_processes,
)
from msgd.lab.training.sgd import Augment, Examples, Trainer
from msgd.langevin import SGLD
from msgd.noise import Weights, generator


def advance(trainer: Trainer, run: Run, steps: range, train_set: Examples) -> int | None:
    """Take some steps; under torchrun, each process computes its part of the examples of every draw.

    Args:
        trainer: the trainer that takes the steps.
        run: the run.
        steps: the numbers of the steps.
        train_set: inputs and targets of all n training examples.

    Returns:
        The first step whose gradient was not finite, which is the number of steps after which the loss was not finite;
        None: all gradients were finite.

    Raises:
        UserError: this network does not allow the method's noise or penalty, or another process has ended.
    """
    # Draw the weights of all steps at once: between two steps a draw is 4 times slower, because its code is cold.
    draws = [run.law.draw(run.n, seed=run.noise_seed, step=step, stream=run.stream) for step in steps]
    last = []
    for step, weights in zip(steps, draws, strict=True):
        trainer.lr = run.lr_at(step)
        gradients = sum_over_processes(_gradient(trainer, run, step, weights, train_set))
        if run.sam:
            start = climb(trainer.parameters, gradients, run.sam)
            gradients = sum_over_processes(_gradient(trainer, run, step, weights, train_set))
            restore(trainer.parameters, start)
        if run.clip:
            gradients = clip_gradients(gradients, run.clip)
        # A loss that is not finite makes every gradient not finite; the last one, of the output biases, is small.
        last.append(gradients[-1])
        trainer.update(gradients)
    finite = torch.stack(last).isfinite().flatten(1).all(1)
    return None if finite.all() else steps[int(finite.int().argmin())]


def _gradient(trainer: Trainer, run: Run, step: int, weights: Weights, train_set: Examples) -> tuple[Tensor, ...]:
    """This process's part of a step's gradient, from its examples; rank 0 adds the noise or computes the penalty."""
    try:
        if run.penalty:
            if rank() > 0:
                return tuple(torch.zeros_like(parameter) for parameter in trainer.parameters)
            return run.penalty.gradient(
                trainer.model, trainer.loss, *train_set, seed=run.noise_seed, step=step, stream=run.stream
            )
        added = _noise(trainer, run, step, train_set) if run.noise and rank() == 0 else None
    except ValueError as error:  # a fault that shows only with the network and the data
        raise UserError(f"methods.{run.method}: {error}") from error
    together, part = len(weights.value), slice(None)
    if process_count() > 1:
        part = own_part(together)
        if weights.index is None:
            train_set = train_set[0][part], train_set[1][part]
        weights = Weights(None if weights.index is None else weights.index[part], weights.value[part], weights.n)
    if run.own.task is not None:  # its network may draw numbers of its own, for dropout
        torch.manual_seed(int(generator(run.noise_seed, step, run.dropout).integers(2**62)) + rank())
    gradient = trainer.gradient(*train_set, weights, _augment(run, step, together, part))
    if added:
        torch._foreach_add_(gradient, added)
    return gradient


def _noise(trainer: Trainer, run: Run, step: int, train_set: Examples) -> tuple[Tensor, ...]:
    """Sample a step's noise in parameter space, and first measure its state where a refresh is due."""
    assert run.noise is not None
    noise = replace(run.noise, lr=trainer.lr) if isinstance(run.noise, SGLD) else run.noise
    if noise.refresh_due(step):
        trainer.noise = noise.measure(trainer.model, trainer.loss, *train_set)
    return noise.sample(trainer.noise, trainer.parameters, seed=run.noise_seed, step=step, stream=run.stream)


def _augment(run: Run, step: int, together: int, part: slice) -> Augment | None:
    pad = run.augment
    if pad is None:
        return None
    rng = generator(run.noise_seed, step, run.crops)
    return lambda images: crop_and_flip(images, pad, rng, among=together, part=part)
