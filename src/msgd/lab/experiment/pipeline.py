"""An experiment from its recipe to its finished runs: data, tuning if there is any, then the runs themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console

from msgd.lab.data.dataset import Data
from msgd.lab.data.load import load_data
from msgd.lab.execution.environment import describe_environment
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment.jobs import Job, run_jobs, unfinished_jobs
from msgd.lab.experiment.tuning import FIRST_SEED, hold_out, pick_rates, tuning_runs, with_tuned_rates
from msgd.lab.experiment_folder.description import check_kind, describe_experiment
from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.experiment_folder.tensorboard import write_events
from msgd.lab.experiment_folder.tuning import write_tuning
from msgd.lab.plan.grid import planned_runs
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.safe_io.writing import check_inside
from msgd.lab.text import plural
from msgd.lab.training.data_parallel import process_count


@dataclass(frozen=True)
class Pipeline:
    """A recipe, and where and how it is run.

    Args:
        name: of the recipe.
        recipe: with the methods that are to be run.
        out: folder for the results.
        data_dir: folder with the data set's files; None for the usual places.
        workers: who trains.
        device: "cpu" or "cuda".
        console: where progress is shown.
        events: write TensorBoard's event files as well, of runs that are finished already too.
    """

    name: str
    recipe: Recipe
    out: Path
    data_dir: Path | None
    workers: Workers
    device: str
    console: Console
    events: bool = False

    def run(self) -> None:
        """Train everything that is not finished.

        Raises:
            UserError: something is wrong with the recipe, the data or the folder.
            KeyboardInterrupt: at Ctrl-C; what was saved stays.
        """
        check_kind(self.out, "training")
        if process_count() > 1:
            self.console.print(f"Each step is shared out over {process_count()} processes.")
        about = describe_environment(self.device) | {"processes_per_run": process_count()}
        loaded = self._load(range(self.recipe.seeds))
        n, digests = next(iter(loaded.values())).n, [part.digest() for part in loaded.values()]
        planned_runs(self.recipe, n=n, digests=digests)  # its faults show before anything is written
        with lock_folder(self.out):
            recipe = self._tuned(loaded, about) if self.recipe.tune else self.recipe
            planned = [(run, run_folder(run, self.out)) for run in planned_runs(recipe, n=n, digests=digests)]
            jobs = unfinished_jobs(planned)
            described = {"n": n, "digests": digests}
            describe_experiment(self.out, self.name, recipe, described, about, keep_environment=not jobs)
            self._train(planned, jobs, loaded, about, "test")

    def _tuned(self, loaded: dict[int, Data], about: dict[str, Any]) -> Recipe:
        assert self.recipe.tune is not None
        seeds = range(FIRST_SEED, FIRST_SEED + self.recipe.tune.seeds)
        whole = self._load(seeds) if "data" in self.recipe.vary else loaded
        split = {seed: hold_out(part, self.recipe.tune.held_out) for seed, part in whole.items()}
        trials = tuning_runs(self.recipe, split, self.out)
        self._train(trials, unfinished_jobs(trials), split, about, "held-out")
        held_out = next(iter(whole.values())).n - next(iter(split.values())).n
        found = pick_rates(self.recipe, trials, held_out)
        write_tuning(found, self.out)
        return with_tuned_rates(self.recipe, found)

    def _load(self, seeds: Iterable[int]) -> dict[int, Data]:
        """The data of each seed; seed 0's alone, where all seeds share it."""
        wanted = list(seeds) if "data" in self.recipe.vary else [0]
        load = joblib.delayed(load_data)
        made = joblib.Parallel(n_jobs=min(self.workers.jobs, os.cpu_count() or 1, len(wanted)))(
            load(self.recipe.data, n=self.recipe.n, data_dir=self.data_dir, seed=seed) for seed in wanted
        )
        return dict(zip(wanted, made, strict=True))

    def _train(
        self,
        planned: list[tuple[Run, Path]],
        jobs: list[Job],
        loaded: dict[int, Data],
        about: dict[str, Any],
        measured: str,
    ) -> None:
        for _, folder in planned:
            check_inside(folder, self.out)
        self.console.print(_plan_text(planned, len(planned) - len(jobs), measured, self.out))
        if self.events:
            open_folders = {job.folder for job in jobs}
            for run, folder in planned:
                if folder not in open_folders:
                    write_events(folder, read_run_state(run, folder)[1])
        if jobs:
            run_jobs(
                jobs,
                loaded,
                out=self.out,
                workers=self.workers,
                device=self.device,
                environment=about,
                console=self.console,
                measured=measured,
                events=self.events,
            )


def _plan_text(planned: list[tuple[Run, Path]], done: int, measured: str, out: Path) -> str:
    lengths = {run.steps for run, _ in planned}
    parts = [plural(len({run.method for run, _ in planned}), "method")]
    if measured == "held-out":
        parts.append(plural(len({run.lr for run, _ in planned}), "learning rate"))
    parts.append(plural(len({run.seed for run, _ in planned}), "seed"))
    steps = plural(min(lengths), "step") if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)} steps"
    return (
        ("Tuning on held-out examples: " if measured == "held-out" else "")
        + f"{' × '.join(parts)}, {steps} each, in {out}"
        + (f"; {done} of {len(planned)} runs are finished already" if done else "")
    )
