"""The one training loop: any law of w, checkpoints that resume bitwise, an end where the loss is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msgd.errors import UserError
from msgd.lab import backends, models, processes, runs, termination
from msgd.lab.augment import crop_and_flip
from msgd.lab.data import Data, check_device, on_device, pixel_statistics
from msgd.lab.environment import describe
from msgd.lab.events import event_file
from msgd.lab.fitting import check_state
from msgd.lab.plan import Run
from msgd.lab.trainer import Augment, Examples, Trainer, evaluate, losses_of
from msgd.langevin import SGLD
from msgd.noise import Weights, generator

STRETCH = 50  #: steps at most between two looks at whether to go on
STRETCH_SECONDS = 1.0  #: and, of slow steps, about so long: schedulers do not wait for many
ORPHAN_SECONDS = 60  #: a worker whose runner was killed needs at most this to notice
LOST_SECONDS = 600  #: the same of a worker that a cluster has lost, and of a file server with the locks of a dead host


def train(
    run: Run,
    data: Data,
    folder: Path,
    *,
    device: str,
    environment: dict[str, Any],
    go_on: Callable[[], bool] = lambda: True,
    patience: float = ORPHAN_SECONDS,
    events: bool = False,
) -> None:
    """Train one run to its end, or on from its checkpoint, writing to its folder.

    Where a loss is not finite the run ends, and its checkpoint says after which step.

    Args:
        run: what to train.
        data: the data set.
        folder: of the run.
        device: "cpu" or "cuda".
        environment: is recorded beside the run.
        go_on: asked every `STRETCH` steps or sooner; False saves the run where it is, to be continued later.
        patience: seconds to wait for another process that has the folder.
        events: write TensorBoard's event file as well.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    place = processes.place(device)
    with runs.locked(folder, patience=patience), ExitStack() as stack:
        checkpoint, records = runs.state_of(run, folder)
        runs.keep_records(folder, records)
        log = stack.enter_context(event_file(folder, records)) if events else None
        if checkpoint and checkpoint.ends(run):
            return
        if checkpoint:
            runs.note_processes(folder, environment)
        else:
            runs.write_identity(run, folder, environment)
        trainer, train_set, test_set = prepared(run, data, place)
        done, seconds = 0, 0.0
        if checkpoint:
            check_state(folder / "checkpoint.safetensors", run, checkpoint.tensors, trainer.model)
            trainer.load(checkpoint.tensors)
            done, seconds = checkpoint.step, checkpoint.seconds

        def evaluated(step: int) -> bool:
            record = _record(step, trainer.model, train_set, test_set)
            runs.append_record(folder, record)
            if log:
                log(record)
            return all(map(math.isfinite, (record["train_loss"], record["test_loss"])))

        diverged = None if checkpoint or evaluated(0) else 0
        processes.tell(processes.Task(run, data, device, done, trainer.state()))
        stretch = 1
        while diverged is None and done < run.steps and go_on():
            stop = min(done + stretch, _next_stop(run, done))
            processes.tell(range(done, stop))
            start = time.perf_counter()
            diverged = advance(trainer, run, range(done, stop), train_set)
            took = time.perf_counter() - start
            stretch = max(1, min(2 * stretch, STRETCH, int(STRETCH_SECONDS / took * (stop - done))))
            seconds += took
            done = stop
            if diverged is None and (done % run.eval_every == 0 or done == run.steps) and not evaluated(done):
                diverged = done
            if done in run.snapshots and done < run.steps and diverged is None:  # at the end the checkpoint has them
                runs.write_snapshot(run, folder, done, trainer.state())
            if done % run.checkpoint_every == 0 and diverged is None and done < run.steps:
                runs.write_checkpoint(folder, runs.Checkpoint(done, seconds, trainer.state()))
        processes.tell(None)
        runs.write_checkpoint(folder, runs.Checkpoint(done, seconds, trainer.state(), diverged))


def prepared(run: Run, data: Data, place: torch.device) -> tuple[Trainer, Examples, Examples]:
    """Put a run's network and its data where it is trained.

    Args:
        run: what is trained.
        data: the data set.
        place: the device.

    Returns:
        The trainer with the initial network, the training examples, and the test examples.
    """
    trainer = Trainer(
        models.initial_network(run, data).to(place), run.lr, run.momentum, run.weight_decay, run.micro_batch
    )
    statistics = pixel_statistics(data.train_inputs) if run.pixels == "standard" else None
    train_set, test_set = (
        on_device(inputs, targets, place, run.pixels, statistics=statistics)
        for inputs, targets in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets))
    )
    return trainer, train_set, test_set


def advance(trainer: Trainer, run: Run, steps: range, train_set: Examples) -> int | None:
    """Take some steps; in several processes of torchrun, each with its part of the examples of every draw.

    Args:
        trainer: takes them.
        run: whose steps they are.
        steps: their numbers.
        train_set: inputs and targets of all n training examples.

    Returns:
        The first step whose gradient was not finite, which is the number of steps after which the loss was not; None:
        all were.

    Raises:
        UserError: the method's noise or penalty cannot be had of this network, or a process was lost.
    """
    # Drawn for a stretch at once: between two steps the code of a draw is cold, and 4 times slower.
    draws = [run.law.draw(run.n, seed=run.noise_seed, step=step, stream=run.stream) for step in steps]
    last = []
    for step, weights in zip(steps, draws, strict=True):
        trainer.lr = run.lr_at(step)
        gradients = processes.summed(_gradient(trainer, run, step, weights, train_set))
        # A loss that is not finite makes every gradient so; that of the output's biases is small, and comes last.
        last.append(gradients[-1])
        trainer.update(gradients)
    finite = torch.stack(last).isfinite().flatten(1).all(1)
    return None if finite.all() else steps[int(finite.int().argmin())]


def _gradient(trainer: Trainer, run: Run, step: int, weights: Weights, train_set: Examples) -> tuple[Tensor, ...]:
    """This process's part of a step's gradient: that of its examples; rank 0's has the noise or penalty in it."""
    try:
        if run.penalty:
            if processes.rank() > 0:
                return tuple(torch.zeros_like(parameter) for parameter in trainer.parameters)
            return run.penalty.gradient(
                trainer.model, losses_of, *train_set, seed=run.noise_seed, step=step, stream=run.stream
            )
        added = _noise(trainer, run, step, train_set) if run.noise and processes.rank() == 0 else None
    except ValueError as error:  # what only the network and the data can show
        raise UserError(f"methods.{run.method}: {error}") from error
    together, part = len(weights.value), slice(None)
    if processes.size() > 1:
        part = processes.part(together)
        if weights.index is None:
            train_set = train_set[0][part], train_set[1][part]
        weights = Weights(None if weights.index is None else weights.index[part], weights.value[part], weights.n)
    gradient = trainer.gradient(*train_set, weights, _augment(run, step, together, part))
    if added:
        torch._foreach_add_(gradient, added)
    return gradient


def _noise(trainer: Trainer, run: Run, step: int, train_set: Examples) -> tuple[Tensor, ...]:
    """The noise in parameter space of a step, measured anew where that is due."""
    assert run.noise is not None
    noise = replace(run.noise, lr=trainer.lr) if isinstance(run.noise, SGLD) else run.noise
    if noise.refresh_due(step):
        trainer.noise = noise.measure(trainer.model, losses_of, *train_set)
    return noise.sample(trainer.noise, trainer.parameters, seed=run.noise_seed, step=step, stream=run.stream)


def _augment(run: Run, step: int, together: int, part: slice) -> Augment | None:
    pad = run.augment
    if pad is None:
        return None
    rng = generator(run.noise_seed, step, run.crops)
    return lambda images: crop_and_flip(images, pad, rng, among=together, part=part)


def _next_stop(run: Run, done: int) -> int:
    """The next step after which the run is evaluated, saved, kept, or ended."""
    after = [(done // every + 1) * every for every in (run.eval_every, run.checkpoint_every)]
    return min([*after, *(step for step in run.snapshots if step > done), run.steps])


def _record(step: int, model: nn.Module, train_set: Examples, test_set: Examples) -> runs.Record:
    test_accuracy, test_loss = evaluate(model, *test_set)
    train_accuracy, train_loss = evaluate(model, *train_set)
    values = (test_accuracy, test_loss, train_accuracy, train_loss)
    return {"step": step, **dict(zip(runs.METRICS, values, strict=True))}


def train_in_worker(
    run: Run,
    data: Data,
    folder: Path,
    *,
    device: str,
    environment: dict[str, Any],
    parent: int | None,
    events: bool,
) -> None:
    """Train one run as a job of the runner: on one thread, and no longer than the process that asked for it.

    The processes of torchrun keep the threads that it gave them (one, unless OMP_NUM_THREADS says otherwise).

    Args:
        run: as in `train`.
        data: as in `train`.
        folder: as in `train`.
        device: as in `train`.
        environment: as in `train`; a cluster's worker records its own.
        parent: for whom, see `backends.wanted`; a job that nobody wants any more ends within `STRETCH` steps.
        events: as in `train`.

    Raises:
        UserError: as `train`; or this worker has no such device.
    """
    if processes.size() == 1:
        torch.set_num_threads(1)
    patience = ORPHAN_SECONDS
    check_device(device)
    if parent is None:
        environment = describe(device) | {key: environment[key] for key in ("command", "processes_per_run")}
        patience = LOST_SECONDS
    train(
        run,
        data,
        folder,
        device=device,
        environment=environment,
        go_on=lambda: backends.wanted(parent) and not termination.asked(),
        patience=patience,
        events=events,
    )
    if not backends.wanted(parent):
        backends.give_up(parent)
