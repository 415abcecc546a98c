"""The pipeline of `msgd measure`: measures the noise at the saved parameters of finished runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import torch
from rich.console import Console
from scipy.sparse.linalg import ArpackError
from torch import nn

from msgd.lab.data.dataset import Data
from msgd.lab.data.device import check_device
from msgd.lab.errors import UserError
from msgd.lab.execution.environment import describe_environment
from msgd.lab.execution.parallel import run_in_parallel
from msgd.lab.execution.progress import JobProgress
from msgd.lab.execution.shared_data import fetch_data, share_data
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.experiment_folder.identity import fingerprint
from msgd.lab.experiment_folder.results import Results
from msgd.lab.measure.cost import CostCountingMatrix
from msgd.lab.measure.measurements_file import (
    COSTS,
    Cost,
    Measurement,
    Measurements,
    Quantity,
    QuantityResult,
    current_measurements,
    read_measurements,
    valid_measurements,
    write_measurements,
)
from msgd.lab.measure.quantities import (
    LEVELS,
    Subject,
    finite_or_none,
    measure_covariance,
    measure_noise_scale,
    measure_sharpness,
    measure_tails,
)
from msgd.lab.measure.restore import check_loss, restore_network
from msgd.lab.measure.selection import Point, Request, find_points
from msgd.lab.plan.portable import PortableRun, portable, received
from msgd.lab.plan.run import Run
from msgd.lab.recipes.own import NOTHING_OWN
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.tasks.own_data import task_data
from msgd.lab.text import plural
from msgd.lab.training.data_parallel import has_batch_norm
from msgd.lab.training.prepare import put_on_device
from msgd.lab.training.sgd import evaluate


def measure_experiment(
    results: Results,
    out: Path,
    folder: Path | None,
    request: Request,
    *,
    data_dir: Path | None,
    workers: Workers,
    device: str,
    console: Console,
) -> list[Measurement]:
    """Measure what has not been measured yet, and update ``measurements.json`` after each checkpoint.

    Args:
        results: the results of the experiment.
        out: the experiment's folder.
        folder: the folder of the only run to measure; None: measure all runs.
        request: what to measure.
        data_dir: folder with the data set's files; None: the default folders.
        workers: the workers that measure.
        device: "cpu" or "cuda".
        console: the console that shows the progress.

    Returns:
        All measurements of the runs that the file now holds.

    Raises:
        UserError: a checkpoint is damaged or belongs to another run, the data differ from those of training, or the
            network has no per-example gradients.
        KeyboardInterrupt: the user pressed Ctrl-C; finished measurements stay.
    """
    points = find_points(results, out, folder, request)
    with lock_folder(out):
        with results.recipe.own.faults_in(results.name):
            loaded = _load(points, data_dir, results)
            # Check every file before anything is measured, so that a damaged file costs no work.
            d = {_number_of_parameters(point, loaded[point.run.data_seed]) for point in points}
        before = read_measurements(out)
        finished = [done.run for done in results.finished_runs]
        kept = valid_measurements(before, finished) if before else []
        about = describe_environment(device)
        measured = Measurements(recipe=results.name, n=points[0].run.n, d=d.pop(), environment=about, measurements=kept)
        jobs = [(point, todo) for point in points if (todo := _quantities_to_measure(point, request, kept))]
        console.print(_plan_text(points, request, len(points) - len(jobs)))
        if not jobs:
            return current_measurements(measured, finished)
        write_measurements(measured, out)  # fails early if the folder cannot be written

        def ended(found: list[Measurement]) -> None:
            again = {(m.method, m.seed, m.step, m.what) for m in found}
            old = [m for m in measured.measurements if (m.method, m.seed, m.step, m.what) not in again]
            measured.measurements = [*old, *found]
            measured.measurements = valid_measurements(measured, finished)
            write_measurements(measured, out)

        _execute(jobs, request.cost, loaded, ended, out=out, workers=workers, device=device, console=console)
    return current_measurements(measured, finished)


def _number_of_parameters(point: Point, data_set: Data) -> int:
    return sum(parameter.numel() for parameter in restore_network(point, data_set, "cpu").parameters())


def _plan_text(points: Sequence[Point], request: Request, done: int) -> str:
    methods = plural(len({point.run.method for point in points}), "method")
    text = f"{plural(len(points), 'checkpoint')} of {methods}, {', '.join(request.what)}, {request.cost}"
    return text + (f"; {done} are measured already" if done else "")


def _quantities_to_measure(point: Point, request: Request, kept: Sequence[Measurement]) -> tuple[Quantity, ...]:
    run = point.run
    enough = COSTS[COSTS.index(request.cost) :]  # a measurement at a higher cost also counts
    done = {
        m.what for m in kept if (m.method, m.seed, m.step) == (run.method, run.seed, point.step) and m.cost in enough
    }
    return tuple(what for what in request.what if what not in done)


def _load(points: list[Point], data_dir: Path | None, results: Results) -> dict[int, Data]:
    recipe, loaded = results.recipe, {}
    for run in {point.run.data_seed: point.run for point in points}.values():
        part = task_data(recipe.own.task, run.data, n=recipe.n, data_dir=data_dir, seed=run.data_seed)
        if part.digest() != run.data_digest:
            raise UserError(
                f"{run.method}, seed {run.seed} was trained on other data of {run.data} (another checksum): "
                "give --data-dir the folder that msgd run used"
            )
        loaded[run.data_seed] = part
    return loaded


def _execute(
    jobs: list[tuple[Point, tuple[Quantity, ...]]],
    cost: Cost,
    loaded: dict[int, Data],
    ended: Callable[[list[Measurement]], None],
    *,
    out: Path,
    workers: Workers,
    device: str,
    console: Console,
) -> None:
    progress = JobProgress(console, len(jobs), "checkpoint")

    def point_ended(found: list[Measurement]) -> None:
        ended(found)
        progress.advance()
        m, seconds = found[0], sum(part.seconds for part in found)
        progress.job_ended(f"{m.method}, seed {m.seed}, step {m.step}: {seconds:.1f} s")

    with share_data(loaded, workers, out) as shared, progress:
        calls = [
            joblib.delayed(measure_point)(*_portable(point), shared[point.run.data_seed], what, cost, device)
            for point, what in jobs
        ]
        run_in_parallel(calls, point_ended, out=out, workers=workers)


def _portable(point: Point) -> tuple[Point, Run | PortableRun]:
    return replace(point, run=replace(point.run, own=NOTHING_OWN)), portable(point.run)


def measure_point(
    point: Point, run: Run | PortableRun, data_set: Data | Path, what: Sequence[Quantity], cost: Cost, device: str
) -> list[Measurement]:
    """Measure one run after one step, on one thread.

    Args:
        point: the step and the folder of a run.
        run: the run, see `portable`.
        data_set: the data set, from `share_data`.
        what: the quantities to measure.
        cost: the cost level of the measurements.
        device: "cpu" or "cuda".

    Returns:
        A measurement for each quantity.

    Raises:
        UserError: the checkpoint is damaged or belongs to another run, or the network has no per-example gradients.
    """
    torch.set_num_threads(1)
    check_device(device)
    point = replace(point, run=received(run))
    with point.run.own.faults_in(point.run.model):
        return _measure_point(point, data_set, what, cost, device)


def _measure_point(
    point: Point, data_set: Data | Path, what: Sequence[Quantity], cost: Cost, device: str
) -> list[Measurement]:
    run, place, examples = point.run, torch.device(device), fetch_data(data_set)
    model = restore_network(point, examples, device)
    train_set, objective = put_on_device(run, examples, place)[0], run.objective
    evaluated = train_set[0][: run.eval_train], train_set[1][: run.eval_train]
    loss = evaluate(model, *evaluated, objective, chunk=run.evaluation_chunk)["loss"]
    check_loss(point, loss)
    # A network of the user's own may have dropout, which would make its gradients random. Batch norm stays in training
    # mode, in which it couples the examples and is refused.
    model.train(run.own.task is None or has_batch_norm(model))
    try:
        matrix = CostCountingMatrix(model, objective.loss, *train_set)
    except ValueError as error:
        raise UserError(f"{run.model}: {error}") from error
    subject, done = Subject(matrix, run, point.step, LEVELS[cost]), []
    for thing in what:
        start, matrix.gradients = time.perf_counter(), 0.0
        found, notes = _measure(thing, subject, model) if math.isfinite(loss) else (None, [_divergence_note(point)])
        done.append(
            Measurement(
                method=run.method,
                seed=run.seed,
                step=point.step,
                what=thing,
                cost=cost,
                run=fingerprint(run),
                loss=finite_or_none(loss),
                found=found,
                notes=notes,
                gradients=round(matrix.gradients, 1),
                seconds=time.perf_counter() - start,
            )
        )
    return done


def _divergence_note(point: Point) -> str:
    checkpoint = read_checkpoint(point.folder, tensors=False)  # the divergence may be a few steps before the point
    step = checkpoint.diverged if checkpoint else None
    after = "" if step is None else f" after {plural(step, 'step')}"
    return f"the run diverged{after}: its loss is not finite"


def _measure(thing: Quantity, subject: Subject, model: nn.Module) -> tuple[QuantityResult | None, list[str]]:
    try:
        match thing:
            case "covariance":
                return measure_covariance(subject)
            case "noise-scale":
                return measure_noise_scale(subject)
            case "tails":
                return measure_tails(subject)
            case "sharpness":
                squares = [p.detach().double().square().sum() for p in model.parameters()]
                return measure_sharpness(subject, math.sqrt(sum(map(float, squares))))
    except (ValueError, ArithmeticError, NotImplementedError, np.linalg.LinAlgError, ArpackError) as error:
        return None, [" ".join(str(error).split())]
