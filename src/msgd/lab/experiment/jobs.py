"""Runs the runs of an experiment: in parallel, with progress, skipping what is done and resuming what is not."""

from __future__ import annotations

import json
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
from msgd.lab.experiment_folder.metrics import Record
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.plan.cost import computed_per_step
from msgd.lab.plan.run import Run
from msgd.lab.text import plural

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A run that is still to be trained, and how far it is."""

    run: Run
    folder: Path
    done: int


def unfinished_jobs(planned: list[tuple[Run, Path]]) -> list[Job]:
    """Check every run's folder, and list the runs that are not finished.

    Everything is checked before anything is trained, so that a damaged folder costs no work.

    Args:
        planned: all runs and their folders.

    Returns:
        The jobs, the most expensive first, so that the workers end together.

    Raises:
        UserError: a folder holds another run or is damaged.
    """
    jobs = []
    for run, folder in planned:
        checkpoint, _ = read_run_state(run, folder)
        done = checkpoint.step if checkpoint else 0
        if not (checkpoint and checkpoint.ends(run)):
            jobs.append(Job(run, folder, done))
    one_of_each = {job.run.method: job.run for job in jobs}
    cost = {method: computed_per_step(run) for method, run in one_of_each.items()}
    return sorted(jobs, key=lambda job: cost[job.run.method] * (job.run.steps - job.done), reverse=True)


def run_jobs(
    jobs: list[Job],
    data: Mapping[int, Data],
    *,
    out: Path,
    workers: Workers,
    device: str,
    environment: dict[str, Any],
    console: Console,
    measured: str = "test",
    events: bool = False,
) -> None:
    """Train all jobs.

    Args:
        jobs: from `unfinished_jobs`.
        data: the data set, by the runs' data seed.
        out: the experiment's folder, locked.
        workers: who trains.
        device: "cpu" or "cuda".
        environment: recorded beside each run.
        console: where progress is shown.
        measured: what the runs' accuracy is measured on, for the progress: "test" or "held-out" examples.
        events: write TensorBoard's event files as well.

    Raises:
        KeyboardInterrupt: at Ctrl-C, once the workers are gone; what they checkpointed stays. At SIGTERM, once they
            have checkpointed; on a cluster without waiting for it.
        UserError: from a worker.
    """
    options = {"device": device, "environment": environment, "parent": workers.parent, "events": events}
    saved = sigterm_saves() if workers.client is None else nullcontext()
    with share_data(data, workers, out) as given, _progress(jobs, console, measured) as job_ended, saved:
        calls = [
            joblib.delayed(train_job)(number, job.run, given[job.run.data_seed], job.folder, **options)
            for number, job in enumerate(jobs)
        ]

        def ended(number: int | None) -> None:
            if number is None:  # a worker was asked to end, be it alone: the command ends with it
                request_stop()
            else:
                job_ended(jobs[number])

        run_in_parallel(calls, ended, out=out, workers=workers)


@contextmanager
def _progress(jobs: list[Job], console: Console, measured: str) -> Iterator[Callable[[Job], None]]:
    """Show how far the jobs are, read from their folders.

    Yields:
        A function to call with each job that has ended.
    """
    total = sum(job.run.steps - job.done for job in jobs)
    open_jobs, closing = list(jobs), threading.Event()
    progress = JobProgress(console, len(jobs), "run", total=total, unit="steps")

    def refresh() -> None:
        while not closing.wait(POLL_SECONDS):
            pending = list(open_jobs)
            behind = sum(job.run.steps - max(job.done, last_record(job.folder)["step"]) for job in pending)
            progress.move_to(total - behind)

    def job_ended(job: Job) -> None:
        open_jobs.remove(job)
        progress.job_ended(_outcome(job, measured))

    thread = threading.Thread(target=refresh, daemon=True)
    with progress:
        thread.start()
        try:
            yield job_ended
        finally:
            closing.set()
            thread.join()


def _outcome(job: Job, measured: str) -> str:
    checkpoint = read_checkpoint(job.folder, tensors=False)
    if checkpoint and checkpoint.diverged is not None:
        outcome = f"diverged after {plural(checkpoint.diverged, 'step')}"
    else:
        outcome = f"{measured} accuracy {100 * last_record(job.folder)['test_accuracy']:.1f}%"
    return f"{job.run.method}, seed {job.run.seed}, lr {job.run.lr:g}: {outcome}"


def last_record(folder: Path) -> Record:
    """Read the last evaluation in a run's folder; step 0 where there is none yet."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
            record = json.loads(file.read().splitlines()[-1])
            return {"step": int(record["step"]), "test_accuracy": float(record["test_accuracy"])}
    except (OSError, ValueError, OverflowError, IndexError, KeyError, TypeError):
        return {"step": 0, "test_accuracy": 0.0}
