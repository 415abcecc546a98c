"""`msgd measure`: the instruments run over the parameters that finished runs have kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.sparse.linalg import ArpackError
from torch import nn

from msgd.errors import UserError
from msgd.lab import data, environment, instruments, measurements, runner, runs
from msgd.lab.backends import Workers, lent, taken
from msgd.lab.counted import CountedMatrix
from msgd.lab.data import Data, check_device, on_device, pixel_statistics
from msgd.lab.instruments import LEVELS, Subject
from msgd.lab.measurements import COSTS, Cost, Found, Measurement, Measurements, What
from msgd.lab.points import Point, Request, check_loss, find_points, network
from msgd.lab.results import Results
from msgd.lab.trainer import evaluate, losses_of
from msgd.lab.verdict import plural


def measure(
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
    """Measure what has not been measured yet, and write ``measurements.json`` as it comes in.

    Args:
        results: the experiment's finished runs.
        out: its folder.
        folder: of the one run that is wanted; None: of all.
        request: what to measure.
        data_dir: folder with the data set's files; None for the usual places.
        workers: who measures.
        device: "cpu" or "cuda".
        console: where progress is shown.

    Returns:
        All that the file now holds of the runs.

    Raises:
        UserError: a checkpoint is damaged or of another run, the data are others, or the network has no per-example
            gradients.
        KeyboardInterrupt: at Ctrl-C; what was measured stays.
    """
    wanted = find_points(results, out, folder, request)
    with runs.locked(out):
        loaded = _load(wanted, data_dir, results)
        # Every file is checked before anything is measured, so that a damaged one costs no work.
        d = {sum(p.numel() for p in network(each, loaded[each.run.data_seed], "cpu").parameters()) for each in wanted}
        before = measurements.read(out)
        finished = [done.run for done in results.finished]
        kept = measurements.kept(before, finished) if before else []
        about = environment.describe(device)
        measured = Measurements(recipe=results.name, n=wanted[0].run.n, d=d.pop(), environment=about, measurements=kept)
        jobs = [(point, todo) for point in wanted if (todo := _missing(point, request, kept))]
        console.print(
            f"{plural(len(wanted), 'checkpoint')} of {plural(len({p.run.method for p in wanted}), 'method')}, "
            f"{', '.join(request.what)}, {request.cost}"
            + (f"; {len(wanted) - len(jobs)} are measured already" if len(jobs) < len(wanted) else "")
        )
        if not jobs:
            return measurements.current(measured, finished)
        measurements.write(measured, out)  # a folder that cannot be written costs no work

        def ended(found: list[Measurement]) -> None:
            again = {(m.method, m.seed, m.step, m.what) for m in found}
            old = [m for m in measured.measurements if (m.method, m.seed, m.step, m.what) not in again]
            measured.measurements = [*old, *found]
            measured.measurements = measurements.kept(measured, finished)
            measurements.write(measured, out)

        _execute(jobs, request.cost, loaded, ended, out=out, workers=workers, device=device, console=console)
    return measurements.current(measured, finished)


def _missing(point: Point, request: Request, kept: Sequence[Measurement]) -> tuple[What, ...]:
    run = point.run
    enough = COSTS[COSTS.index(request.cost) :]  # what was measured at a higher cost is not thrown away
    done = {
        m.what for m in kept if (m.method, m.seed, m.step) == (run.method, run.seed, point.step) and m.cost in enough
    }
    return tuple(what for what in request.what if what not in done)


def _load(wanted: list[Point], data_dir: Path | None, results: Results) -> dict[int, Data]:
    recipe, loaded = results.recipe, {}
    for run in {point.run.data_seed: point.run for point in wanted}.values():
        part = data.load(recipe.data, n=recipe.n, data_dir=data_dir, seed=run.data_seed)
        if part.digest() != run.data_digest:
            raise UserError(
                f"the data of {recipe.data} are not those that {run.method}, seed {run.seed} was trained on "
                "(another checksum): give --data-dir the folder that msgd run had"
            )
        loaded[run.data_seed] = part
    return loaded


def _execute(
    jobs: list[tuple[Point, tuple[What, ...]]],
    cost: Cost,
    loaded: dict[int, Data],
    ended: Callable[[list[Measurement]], None],
    *,
    out: Path,
    workers: Workers,
    device: str,
    console: Console,
) -> None:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task, count = bar.add_task(f"0 of {len(jobs)}", total=len(jobs)), 0

    def each(found: list[Measurement]) -> None:
        nonlocal count
        ended(found)
        count += 1
        bar.update(task, completed=count, description=f"{count} of {len(jobs)}")
        if not console.is_terminal:
            m = found[0]
            seconds = sum(part.seconds for part in found)
            console.print(f"[{count}/{len(jobs)}] {m.method}, seed {m.seed}, step {m.step}: {seconds:.1f} s")

    with lent(loaded, workers, out) as given, bar:
        calls = [
            joblib.delayed(measure_point)(point, given[point.run.data_seed], what, cost, device) for point, what in jobs
        ]
        runner.in_parallel(calls, each, out=out, workers=workers)


def measure_point(
    point: Point, data_set: Data | Path, what: Sequence[What], cost: Cost, device: str
) -> list[Measurement]:
    """Measure one run after one step, on one thread.

    Args:
        point: the run and the step.
        data_set: from `lent`.
        what: things to measure.
        cost: how much of each.
        device: "cpu" or "cuda".

    Returns:
        A measurement for each.

    Raises:
        UserError: the checkpoint is damaged or of another run, or the network has no per-example gradients.
    """
    torch.set_num_threads(1)
    check_device(device)
    run, place, examples = point.run, torch.device(device), taken(data_set)
    model = network(point, examples, device)
    statistics = pixel_statistics(examples.train_inputs) if run.pixels == "standard" else None
    train_set = on_device(examples.train_inputs, examples.train_targets, place, run.pixels, statistics=statistics)
    loss = evaluate(model, *train_set)[1]
    check_loss(point, loss)
    try:
        matrix = CountedMatrix(model.train(), losses_of, *train_set)
    except ValueError as error:
        raise UserError(f"{run.model}: {error}") from error
    subject, done = Subject(matrix, run, point.step, LEVELS[cost]), []
    for thing in what:
        start, matrix.gradients = time.perf_counter(), 0.0
        found, notes = _measured(thing, subject, model) if math.isfinite(loss) else (None, [_divergence(point)])
        done.append(
            Measurement(
                method=run.method,
                seed=run.seed,
                step=point.step,
                what=thing,
                cost=cost,
                run=runs.fingerprint(run),
                loss=instruments.finite(loss),
                found=found,
                notes=notes,
                gradients=round(matrix.gradients, 1),
                seconds=time.perf_counter() - start,
            )
        )
    return done


def _divergence(point: Point) -> str:
    checkpoint = runs.read_checkpoint(point.folder, tensors=False)  # it may be of a few steps later
    step = checkpoint.diverged if checkpoint else None
    after = "" if step is None else f" after {plural(step, 'step')}"
    return f"the run diverged{after}: its loss is not finite"


def _measured(thing: What, subject: Subject, model: nn.Module) -> tuple[Found | None, list[str]]:
    try:
        match thing:
            case "covariance":
                return instruments.measure_covariance(subject)
            case "noise-scale":
                return instruments.measure_noise_scale(subject)
            case "tails":
                return instruments.measure_tails(subject)
            case "sharpness":
                squares = [p.detach().double().square().sum() for p in model.parameters()]
                return instruments.measure_sharpness(subject, math.sqrt(sum(map(float, squares))))
    except (ValueError, ArithmeticError, NotImplementedError, np.linalg.LinAlgError, ArpackError) as error:
        return None, [" ".join(str(error).split())]
