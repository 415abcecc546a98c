"""Runs a least-squares experiment: simulates parts of the trajectories in parallel and writes a file for each."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from rich.console import Console

from msgd.lab.execution.dask import abandon, is_needed
from msgd.lab.execution.environment import describe_environment
from msgd.lab.execution.parallel import run_in_parallel
from msgd.lab.execution.progress import JobProgress
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment_folder.description import check_kind, describe_experiment
from msgd.lab.experiment_folder.identity import check_identity, write_identity
from msgd.lab.least_squares.band import exact_curve
from msgd.lab.least_squares.losses_file import losses_path, parts_of, read_losses, write_losses
from msgd.lab.least_squares.simulate import Simulation, make_data, planned_simulations, simulate_losses
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.safe_io.writing import check_inside
from msgd.lab.text import plural
from msgd.theory import LeastSquares


def simulate_experiment(
    name: str, recipe: LeastSquaresRecipe, out: Path, *, workers: Workers, console: Console
) -> None:
    """Simulate everything that is not finished.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods to run.
        out: folder for the results.
        workers: the workers that simulate.
        console: the console that shows the progress.

    Raises:
        UserError: there is a fault in the recipe or the folder.
        KeyboardInterrupt: the user pressed Ctrl-C; finished parts stay.
    """
    check_kind(out, "least-squares")
    simulations, about = planned_simulations(recipe), describe_environment("cpu")
    problem = LeastSquares(*make_data(recipe))
    for simulation in simulations:
        exact_curve(problem, simulation, recipe.recorded)  # raises any fault before anything is written
    with lock_folder(out):
        for simulation in simulations:
            check_inside(out / simulation.method, out)
            check_identity(simulation, out / simulation.method)
        jobs = [
            (simulation, part)
            for simulation in simulations
            for part in parts_of(recipe)
            if read_losses(losses_path(out, simulation.method, part), (len(part), len(recipe.recorded))) is None
        ]
        describe_experiment(out, name, recipe, {"n": recipe.n}, about, keep_environment=not jobs)
        todo = {simulation.method: simulation for simulation, _ in jobs}
        done = len(simulations) - len(todo)
        console.print(
            f"{plural(len(simulations), 'method')} × {recipe.trajectories} trajectories, {recipe.steps} steps each, "
            f"in {out}" + (f"; {plural(done, 'method')} finished already" if done else "")
        )
        for method, simulation in todo.items():
            (out / method).mkdir(exist_ok=True)
            write_identity(simulation, out / method, about)
        if jobs:
            _execute(jobs, recipe.recorded, out, workers=workers, console=console)


def _execute(
    jobs: list[tuple[Simulation, range]], recorded: list[int], out: Path, *, workers: Workers, console: Console
) -> None:
    pending: dict[str, int] = {}
    for simulation, _ in jobs:
        pending[simulation.method] = pending.get(simulation.method, 0) + 1
    progress = JobProgress(console, len(pending), "method", total=len(jobs))

    def part_ended(method: str) -> None:
        progress.advance()
        pending[method] -= 1
        if not pending[method]:
            progress.job_ended(method)

    calls = [
        joblib.delayed(_simulate_part)(
            simulation, recorded, part, losses_path(out, simulation.method, part), workers.parent
        )
        for simulation, part in jobs
    ]
    with progress:
        run_in_parallel(calls, part_ended, out=out, workers=workers)


def _simulate_part(simulation: Simulation, recorded: list[int], part: range, path: Path, parent: int | None) -> str:
    if not is_needed(parent):
        abandon(parent)
    losses = np.ascontiguousarray(simulate_losses(simulation, recorded, part))
    write_losses(path, losses)
    return simulation.method
