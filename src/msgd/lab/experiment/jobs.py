"""Trains the runs of an experiment in parallel, with progress; skips finished runs and resumes the others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console

from msgd.lab.data.dataset import Data
from msgd.lab.execution.parallel import run_in_parallel
from msgd.lab.execution.progress import JobProgress
from msgd.lab.execution.shared_data import share_data
from msgd.lab.execution.signals import request_stop, sigterm_saves
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment.worker import train_job
from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.experiment_folder.metrics import RECORD_BYTES, Record
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.experiment_folder.scores import ACCURACY, Score
from msgd.lab.plan.cost import computed_per_step
from msgd.lab.plan.portable import portable
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.bounded import check_regular, parse_json
from msgd.lab.text import plural

POLL_SECONDS = 0.5  #: time between two updates of the progress


@dataclass(frozen=True)
class Job:
    """A run that is not finished, its folder, and the number of steps already taken."""

    run: Run
    folder: Path
    steps_taken: int


def unfinished_jobs(planned: list[tuple[Run, Path]]) -> list[Job]:
    """Check every run's folder, and list the runs that are not finished.

    All folders are checked before anything is trained, so that a damaged folder costs no training time.

    Args:
        planned: all planned runs and their folders.

    Returns:
        The jobs, the most expensive first, so that the workers finish at about the same time.

    Raises:
        UserError: a folder holds another run or is damaged.
    """
    jobs = []
    for run, folder in planned:
        checkpoint, _ = read_run_state(run, folder)
        steps_taken = checkpoint.step if checkpoint else 0
        if not (checkpoint and checkpoint.ends(run)):
            jobs.append(Job(run, folder, steps_taken))
    one_of_each = {job.run.method: job.run for job in jobs}
    cost = {method: computed_per_step(run) for method, run in one_of_each.items()}
    return sorted(jobs, key=lambda job: cost[job.run.method] * (job.run.steps - job.steps_taken), reverse=True)


def run_jobs(
    jobs: list[Job],
    data: Mapping[int, Data],
    *,
    out: Path,
    workers: Workers,
    device: str,
    environment: dict[str, Any],
    console: Console,
    split: str = "test",
    events: bool = False,
    score: Score = ACCURACY,
) -> None:
    """Train all jobs.

    Args:
        jobs: the jobs, from `unfinished_jobs`.
        data: data seed → the data set.
        out: the experiment's folder, locked by this process.
        workers: the workers that train.
        device: "cpu" or "cuda".
        environment: the environment, which is written to each run's folder.
        console: the console that shows the progress.
        split: name of the examples that the scores in the progress refer to: "test" or "held-out".
        events: also write TensorBoard's event files.
        score: the score that the progress shows.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; it is raised after the workers have ended, and their last
            checkpoints stay. At SIGTERM, it is raised after the workers have written checkpoints; on a cluster it does
            not wait for them.
        UserError: a worker raised it.
    """
    options = {"device": device, "environment": environment, "parent": workers.parent, "events": events}
    sigterm = sigterm_saves() if workers.client is None else nullcontext()
    with share_data(data, workers, out) as shared, _progress(jobs, console, split, score) as job_ended, sigterm:
        calls = [
            joblib.delayed(train_job)(number, portable(job.run), shared[job.run.data_seed], job.folder, **options)
            for number, job in enumerate(jobs)
        ]

        def ended(number: int | None) -> None:
            if number is None:  # a worker received a request to stop: the whole command stops
                request_stop()
            else:
                job_ended(jobs[number])

        run_in_parallel(calls, ended, out=out, workers=workers)


@contextmanager
def _progress(jobs: list[Job], console: Console, split: str, score: Score) -> Iterator[Callable[[Job], None]]:
    """Show the progress of the jobs, which is read from their folders.

    Yields:
        A function to call with each job that has ended.
    """
    total = sum(job.run.steps - job.steps_taken for job in jobs)
    open_jobs, closing = list(jobs), threading.Event()
    progress = JobProgress(console, len(jobs), "run", total=total, unit="steps")

    def refresh() -> None:
        while not closing.wait(POLL_SECONDS):
            pending = list(open_jobs)
            behind = sum(job.run.steps - max(job.steps_taken, last_record(job.folder)["step"]) for job in pending)
            progress.move_to(total - behind)

    def job_ended(job: Job) -> None:
        open_jobs.remove(job)
        progress.job_ended(_outcome(job, split, score))

    thread = threading.Thread(target=refresh, daemon=True)
    with progress:
        thread.start()
        try:
            yield job_ended
        finally:
            closing.set()
            thread.join()


def _outcome(job: Job, split: str, score: Score) -> str:
    checkpoint = read_checkpoint(job.folder, tensors=False)
    if checkpoint and checkpoint.diverged is not None:
        outcome = f"diverged after {plural(checkpoint.diverged, 'step')}"
    else:
        value = last_record(job.folder).get(score.key)
        outcome = f"{split} {score.name} {'not finite' if value is None else score.short(value)}"
    return f"{job.run.method}, seed {job.run.seed}, lr {job.run.lr:g}: {outcome}"


def last_record(folder: Path) -> Record:
    """Read the last evaluation in a run's folder.

    Args:
        folder: the folder.

    Returns:
        Its step, and every metric that is a finite number; step 0 alone if there is no evaluation yet.
    """
    try:
        path = folder / "metrics.jsonl"
        check_regular(path)
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - RECORD_BYTES))
            record = parse_json(file.read(RECORD_BYTES).splitlines()[-1])
            step = int(record.pop("step"))
        return {"step": step} | {key: value for key, value in record.items() if isinstance(value, float)}
    except (OSError, ValueError, OverflowError, IndexError, KeyError, TypeError, AttributeError):
        return {"step": 0}
