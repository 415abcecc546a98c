"""Runs an experiment: loads the data, tunes the learning rates if the recipe asks for it, and trains the runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from rich.console import Console

from msgd.lab.data.dataset import Data
from msgd.lab.data.device import on_device
from msgd.lab.data.load import TEXTS
from msgd.lab.execution.environment import describe_environment
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment.jobs import Job, run_jobs, unfinished_jobs
from msgd.lab.experiment.score_list import list_scores
from msgd.lab.experiment.tuning import FIRST_SEED, hold_out, pick_rates, tuning_runs, with_tuned_rates
from msgd.lab.experiment_folder.description import check_kind, describe_experiment
from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.experiment_folder.own_code import copy_code
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.experiment_folder.scores import Score, with_margins
from msgd.lab.experiment_folder.tensorboard import write_events
from msgd.lab.experiment_folder.tuning import write_tuning
from msgd.lab.plan.grid import planned_runs
from msgd.lab.plan.own_laws import describe_own
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.safe_io.writing import check_inside
from msgd.lab.tasks.losses import CLASSIFICATION, TEXT
from msgd.lab.tasks.own_data import task_data
from msgd.lab.tasks.trial import TRIED, try_task
from msgd.lab.text import plural
from msgd.lab.training.data_parallel import check_batch_norm, process_count
from msgd.lab.training.prepare import initial_network, pixels_of


@dataclass(frozen=True)
class Pipeline:
    """A recipe with the settings for running it.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods to run.
        out: folder for the results.
        data_dir: folder with the data set's files; None: the default folders.
        workers: the workers that train.
        device: "cpu" or "cuda".
        console: the console that shows the progress.
        events: also write TensorBoard's event files, including those of runs that are already finished.
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
            UserError: there is a fault in the recipe, the data or the folder.
            KeyboardInterrupt: the user pressed Ctrl-C; everything that was saved stays.
        """
        check_kind(self.out, "training")
        if process_count() > 1:
            self.console.print(f"The {process_count()} processes share the examples of every step.")
        about = describe_environment(self.device) | {"processes_per_run": process_count()}
        with self.recipe.own.faults_in(self.name):
            loaded = self._load(range(self.recipe.seeds))
            n, digests = next(iter(loaded.values())).n, [part.digest() for part in loaded.values()]
            runs = planned_runs(self.recipe, n=n, digests=digests)  # raises any fault before anything is written
            scores = self._scores(runs, loaded)
            own = describe_own(self.recipe, n=n)
        with lock_folder(self.out):
            recipe = self._tune(loaded, about, scores[0]) if self.recipe.tune else self.recipe
            planned = [(run, run_folder(run, self.out)) for run in planned_runs(recipe, n=n, digests=digests)]
            jobs = unfinished_jobs(planned)
            facts = {"n": n, "digests": digests} | ({} if own is None else {"code": own})
            keep = not jobs
            describe_experiment(self.out, self.name, recipe, facts, about, keep_environment=keep, scores=scores)
            if recipe.own.code is not None:
                copy_code(recipe.own.code, self.out)
            self._train(planned, jobs, loaded, about, "test", scores[0])

    def _scores(self, runs: list[Run], loaded: dict[int, Data]) -> list[Score]:
        """Try the task on a few examples, and list the scores that its evaluations report; the first one decides."""
        run = runs[0]
        task, data = run.own.task, next(iter(loaded.values()))
        names = list(TEXT if run.data in TEXTS else CLASSIFICATION)
        if task is not None:
            network = initial_network(run, data)
            first = on_device(data.train_inputs[:TRIED], data.train_targets, torch.device("cpu"), pixels_of(run))
            names = try_task(network, run.objective, *first)
            check_batch_norm(network, self.recipe)
        scores = list_scores(names, task, averaged=any(run.ema for run in runs))
        with_margins(scores, self.recipe.margin, self.recipe.margins)  # raises what is wrong with the margins
        return scores

    def _tune(self, loaded: dict[int, Data], about: dict[str, Any], score: Score) -> Recipe:
        assert self.recipe.tune is not None
        seeds = range(FIRST_SEED, FIRST_SEED + self.recipe.tune.seeds)
        full = self._load(seeds) if "data" in self.recipe.vary else loaded
        reduced = {seed: hold_out(part, self.recipe.tune.held_out) for seed, part in full.items()}
        trials = tuning_runs(self.recipe, reduced, self.out)
        self._train(trials, unfinished_jobs(trials), reduced, about, "held-out", score)
        held_out = next(iter(full.values())).n - next(iter(reduced.values())).n
        tuning = pick_rates(self.recipe, trials, held_out, score)
        write_tuning(tuning, self.out)
        return with_tuned_rates(self.recipe, tuning)

    def _load(self, seeds: Iterable[int]) -> dict[int, Data]:
        """Load the data of each seed; if all seeds share the data, load those of seed 0 only."""
        needed = list(seeds) if "data" in self.recipe.vary else [0]
        recipe, load = self.recipe, joblib.delayed(task_data)
        # Code of the user's own stays in this process: others would have to load it first.
        processes = 1 if recipe.own_data else min(self.workers.jobs, os.cpu_count() or 1, len(needed))
        parts = joblib.Parallel(n_jobs=processes)(
            load(recipe.own.task if recipe.own_data else None, recipe.data, n=recipe.n, data_dir=self.data_dir, seed=s)
            for s in needed
        )
        return dict(zip(needed, parts, strict=True))

    def _train(
        self,
        planned: list[tuple[Run, Path]],
        jobs: list[Job],
        loaded: dict[int, Data],
        about: dict[str, Any],
        split: str,
        score: Score,
    ) -> None:
        for _, folder in planned:
            check_inside(folder, self.out)
        self.console.print(_plan_text(planned, len(planned) - len(jobs), split, self.out))
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
                split=split,
                score=score,
                events=self.events,
            )


def _plan_text(planned: list[tuple[Run, Path]], done: int, split: str, out: Path) -> str:
    lengths = {run.steps for run, _ in planned}
    parts = [plural(len({run.method for run, _ in planned}), "method")]
    if split == "held-out":
        parts.append(plural(len({run.lr for run, _ in planned}), "learning rate"))
    parts.append(plural(len({run.seed for run, _ in planned}), "seed"))
    steps = plural(min(lengths), "step") if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)} steps"
    return (
        ("Tuning on held-out examples: " if split == "held-out" else "")
        + f"{' × '.join(parts)}, {steps} each, in {out}"
        + (f"; {done} of {len(planned)} runs are finished already" if done else "")
    )
