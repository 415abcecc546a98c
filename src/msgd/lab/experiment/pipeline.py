"""An experiment from its recipe to its finished runs: data, tuning if there is any, then the runs themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console

from msgd.lab import data, environment, processes, results, runner, runs, tuning
from msgd.lab.backends import Workers
from msgd.lab.config import Recipe
from msgd.lab.data import Data
from msgd.lab.events import write_events
from msgd.lab.files import check_inside
from msgd.lab.plan import Run
from msgd.lab.reading import check_kind
from msgd.lab.verdict import plural


@dataclass(frozen=True)
class Experiment:
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

    def conduct(self) -> None:
        """Train everything that is not finished.

        Raises:
            UserError: something is wrong with the recipe, the data or the folder.
            KeyboardInterrupt: at Ctrl-C; what was saved stays.
        """
        check_kind(self.out, "training")
        about = environment.describe(self.device) | {"processes_per_run": processes.size()}
        loaded = self._load(range(self.recipe.seeds))
        n, digests = next(iter(loaded.values())).n, [part.digest() for part in loaded.values()]
        results.planned_runs(self.recipe, n=n, digests=digests)  # its faults show before anything is written
        with runs.locked(self.out):
            recipe = self._tuned(loaded, about) if self.recipe.tune else self.recipe
            planned = [
                (run, runs.folder_of(run, self.out)) for run in results.planned_runs(recipe, n=n, digests=digests)
            ]
            jobs = runner.remaining(planned)
            described = {"n": n, "digests": digests}
            results.describe_experiment(self.out, self.name, recipe, described, about, keep_environment=not jobs)
            self._train(planned, jobs, loaded, about, "test")

    def _tuned(self, loaded: dict[int, Data], about: dict[str, Any]) -> Recipe:
        assert self.recipe.tune is not None
        seeds = range(tuning.FIRST_SEED, tuning.FIRST_SEED + self.recipe.tune.seeds)
        whole = self._load(seeds) if "data" in self.recipe.vary else loaded
        split = {seed: tuning.hold_out(part, self.recipe.tune.held_out) for seed, part in whole.items()}
        trials = tuning.tuning_runs(self.recipe, split, self.out)
        self._train(trials, runner.remaining(trials), split, about, "held-out")
        held_out = next(iter(whole.values())).n - next(iter(split.values())).n
        found = tuning.pick(self.recipe, trials, held_out)
        tuning.write(found, self.out)
        return tuning.with_chosen(self.recipe, found)

    def _load(self, seeds: Iterable[int]) -> dict[int, Data]:
        """The data of each seed; seed 0's alone, where all seeds share it."""
        wanted = list(seeds) if "data" in self.recipe.vary else [0]
        load = joblib.delayed(data.load)
        made = joblib.Parallel(n_jobs=min(self.workers.jobs, os.cpu_count() or 1, len(wanted)))(
            load(self.recipe.data, n=self.recipe.n, data_dir=self.data_dir, seed=seed) for seed in wanted
        )
        return dict(zip(wanted, made, strict=True))

    def _train(
        self,
        planned: list[tuple[Run, Path]],
        jobs: list[runner.Job],
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
                    write_events(folder, runs.state_of(run, folder)[1])
        if jobs:
            runner.execute(
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
