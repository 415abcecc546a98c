"""The training loop: trains a run under any law of w, resumes it bitwise, and ends it when a loss is not finite.

The arithmetic of a step is in `step` (weights, gradient, noise) and `sgd` (momentum, update, evaluation).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgd.lab.data.dataset import Data
from msgd.lab.experiment_folder.checkpoint import Checkpoint, write_checkpoint, write_snapshot
from msgd.lab.experiment_folder.identity import note_processes, write_identity
from msgd.lab.experiment_folder.metrics import LARGEST_LOSS, LOSSES, Record, append_record, keep_records
from msgd.lab.experiment_folder.resume import check_state, read_run_state
from msgd.lab.experiment_folder.tensorboard import event_file
from msgd.lab.plan.portable import portable
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.training.data_parallel import StartedRun, broadcast_next, own_device
from msgd.lab.training.prepare import prepare
from msgd.lab.training.sgd import Examples, Trainer, evaluate
from msgd.lab.training.step import advance

STRETCH = 50  #: maximum number of steps between two calls of `go_on`
STRETCH_SECONDS = 1.0  #: target time between two calls if steps are slow, because schedulers do not wait long
AVERAGED = "averaged "  #: start of the names of scores of the averaged parameters
ORPHAN_SECONDS = 60  #: maximum time that a worker needs to notice that its runner was killed


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
    """Train one run to its end, from the start or from its checkpoint, and write its folder.

    The run ends when a loss is not finite; its checkpoint then records after which step.

    Args:
        run: the run to train.
        data: the data set.
        folder: the run's folder.
        device: "cpu" or "cuda".
        environment: the environment, which is written to the run's folder.
        go_on: called every `STRETCH` steps or sooner; if it returns False, the run is saved and can be continued later.
        patience: seconds to wait for another process that holds the folder.
        events: also write TensorBoard's event file.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    place = own_device(device)
    with run.own.faults_in(run.model), lock_folder(folder, patience=patience), ExitStack() as stack:
        checkpoint, records = read_run_state(run, folder)
        keep_records(folder, records)
        log = stack.enter_context(event_file(folder, records)) if events else None
        if checkpoint and checkpoint.ends(run):
            return
        if checkpoint:
            note_processes(folder, environment)
        else:
            write_identity(run, folder, environment)
        trainer, train_set, test_set = prepare(run, data, place)
        done, seconds = 0, 0.0
        if checkpoint:
            check_state(folder / "checkpoint.safetensors", run, checkpoint.tensors, trainer.model, trainer.optimizer)
            trainer.load(checkpoint.tensors)
            done, seconds = checkpoint.step, checkpoint.seconds

        def evaluate_at(step: int) -> bool:
            record = _record(run, step, trainer, train_set, test_set)
            append_record(folder, record)
            if log:
                log(record)
            return all(abs(record[loss]) < LARGEST_LOSS for loss in LOSSES)  # false for NaN

        diverged = None if checkpoint or evaluate_at(0) else 0
        broadcast_next(StartedRun(portable(run), data, device, done, trainer.state()))
        if diverged is None:
            done, seconds, diverged = _take_steps(run, folder, trainer, train_set, evaluate_at, done, seconds, go_on)
        broadcast_next(None)
        write_checkpoint(folder, Checkpoint(done, seconds, trainer.state(), diverged))


def _take_steps(
    run: Run,
    folder: Path,
    trainer: Trainer,
    train_set: Examples,
    evaluate_at: Callable[[int], bool],
    done: int,
    seconds: float,
    go_on: Callable[[], bool],
) -> tuple[int, float, int | None]:
    """Take the steps of a run to its end, with the evaluations, snapshots and checkpoints that are due.

    Returns:
        The number of steps taken, their training time in seconds, and the step after which the run diverged (None if it
        did not).
    """
    stretch = 1
    while done < run.steps and go_on():
        stop = min(done + stretch, _next_stop(run, done))
        broadcast_next(range(done, stop))
        start = time.perf_counter()
        diverged = advance(trainer, run, range(done, stop), train_set)
        took = time.perf_counter() - start
        stretch = max(1, min(2 * stretch, STRETCH, int(STRETCH_SECONDS / took * (stop - done))))
        seconds += took
        done = stop
        if diverged is None and (done % run.eval_every == 0 or done == run.steps) and not evaluate_at(done):
            diverged = done
        if diverged is not None:
            return done, seconds, diverged
        if done == run.steps:  # the caller writes the last checkpoint
            break
        if done in run.snapshots:
            write_snapshot(run, folder, done, trainer.state())
        if done % run.checkpoint_every == 0:
            write_checkpoint(folder, Checkpoint(done, seconds, trainer.state()))
    return done, seconds, None


def _next_stop(run: Run, done: int) -> int:
    """The next step after which an evaluation, a checkpoint, a snapshot or the end is due."""
    after = [(done // every + 1) * every for every in (run.eval_every, run.checkpoint_every)]
    return min([*after, *(step for step in run.snapshots if step > done), run.steps])


def _record(run: Run, step: int, trainer: Trainer, train_set: Examples, test_set: Examples) -> Record:
    """Evaluate the network, and the average of its parameters if the run keeps one."""
    objective, chunk = run.objective, run.evaluation_chunk
    train_set = train_set[0][: run.eval_train], train_set[1][: run.eval_train]
    record: Record = {"step": step}
    for split, examples in (("test", test_set), ("train", train_set)):
        values = evaluate(trainer.model, *examples, objective, chunk=chunk)
        record |= {f"{split}_{name}": value for name, value in values.items()}
    if trainer.average is not None:
        with trainer.average.swapped():
            values = evaluate(trainer.model, *test_set, objective, chunk=chunk)
        record |= {f"test_{AVERAGED}{name}": value for name, value in values.items()}
    return record
