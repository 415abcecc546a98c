"""Conducts a least-squares experiment: parts of trajectories in parallel, each kept in a file once it is done."""

from __future__ import annotations

import zlib
from pathlib import Path

import joblib
import numpy as np
import safetensors
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from msgd.errors import UserError
from msgd.lab import environment, runs
from msgd.lab.backends import Workers, give_up, wanted
from msgd.lab.files import HEADER_BYTES, check_inside, check_tensor_file, raise_unreadable
from msgd.lab.least_squares.curves import exact_curve
from msgd.lab.least_squares.recipe import LeastSquaresRecipe
from msgd.lab.least_squares.simulate import Array, Simulation, data, losses, planned
from msgd.lab.reading import check_kind
from msgd.lab.results import describe_experiment
from msgd.lab.runner import in_parallel
from msgd.lab.verdict import plural
from msgd.theory import LeastSquares

PART = 250  #: trajectories that are simulated at once, and kept in one file


def parts(recipe: LeastSquaresRecipe) -> list[range]:
    """Share out the trajectories."""
    return [range(first, min(first + PART, recipe.trajectories)) for first in range(0, recipe.trajectories, PART)]


def path_of(out: Path, method: str, part: range) -> Path:
    """File of a part of a method's trajectories."""
    return out / method / f"losses-{part.start}-{part.stop}.safetensors"


def read_losses(path: Path, shape: tuple[int, int]) -> Array | None:
    """Read the losses of a part.

    Args:
        path: of the file.
        shape: trajectories and recorded steps.

    Returns:
        The losses; None where the part is not done.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        check_tensor_file(path, HEADER_BYTES + 8 * shape[0] * shape[1])
        with safetensors.safe_open(path, framework="np") as file:
            found: Array = file.get_tensor("losses")
            checksum = (file.metadata() or {})["crc32"]
        damage = None if found.shape == shape and found.dtype == np.float64 else f"shape {found.shape}, not {shape}"
        if damage is None and checksum != f"{zlib.crc32(found.tobytes()):08x}":
            damage = "wrong checksum"
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise_unreadable(error)
        damage = str(error)
    if damage is not None:
        raise UserError(f"{path} is damaged ({damage}): delete it to simulate this part again")
    return found


def conduct(name: str, recipe: LeastSquaresRecipe, out: Path, *, workers: Workers, console: Console) -> None:
    """Simulate everything that is not finished.

    Args:
        name: of the recipe.
        recipe: with the methods that are to be run.
        out: folder for the results.
        workers: who simulates.
        console: where progress is shown.

    Raises:
        UserError: something is wrong with the recipe or the folder.
        KeyboardInterrupt: at Ctrl-C; the parts that were done stay.
    """
    check_kind(out, "least-squares")
    simulations, about = planned(recipe), environment.describe("cpu")
    problem = LeastSquares(*data(recipe))
    for simulation in simulations:
        exact_curve(problem, simulation, recipe.recorded)  # its faults show before anything is written
    with runs.locked(out):
        for simulation in simulations:
            check_inside(out / simulation.method, out)
            runs.check_identity(simulation, out / simulation.method)
        jobs = [
            (simulation, part)
            for simulation in simulations
            for part in parts(recipe)
            if read_losses(path_of(out, simulation.method, part), (len(part), len(recipe.recorded))) is None
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
            runs.write_identity(simulation, out / method, about)
        if jobs:
            _execute(jobs, recipe.recorded, out, workers=workers, console=console)


def _execute(
    jobs: list[tuple[Simulation, range]], recorded: list[int], out: Path, *, workers: Workers, console: Console
) -> None:
    pending: dict[str, int] = {}
    for simulation, _ in jobs:
        pending[simulation.method] = pending.get(simulation.method, 0) + 1
    methods = len(pending)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(f"0 of {plural(methods, 'method')}", total=len(jobs))

    def finished(method: str) -> None:
        pending[method] -= 1
        if not pending[method]:
            del pending[method]
            if not console.is_terminal:
                console.print(f"[{methods - len(pending)}/{methods}] {method}")
        bar.update(task, advance=1, description=f"{methods - len(pending)} of {plural(methods, 'method')}")

    calls = [
        joblib.delayed(_work)(simulation, recorded, part, path_of(out, simulation.method, part), workers.parent)
        for simulation, part in jobs
    ]
    with bar:
        in_parallel(calls, finished, out=out, workers=workers)


def _work(simulation: Simulation, recorded: list[int], part: range, path: Path, parent: int | None) -> str:
    if not wanted(parent):
        give_up(parent)
    found = np.ascontiguousarray(losses(simulation, recorded, part))
    metadata = {"crc32": f"{zlib.crc32(found.tobytes()):08x}"}
    runs.write_atomically(path, runs.packed({"losses": torch.from_numpy(found)}, metadata))
    return simulation.method
