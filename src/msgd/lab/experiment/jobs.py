"""Runs the runs of an experiment: in parallel, with progress, skipping what is done and resuming what is not."""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from msgd.lab import runs, termination
from msgd.lab.backends import Workers, lent, on_cluster, taken
from msgd.lab.data import Data
from msgd.lab.plan import Run, computed_per_step
from msgd.lab.train import train_in_worker
from msgd.lab.verdict import plural

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A run that is still to be trained, and how far it is."""

    run: Run
    folder: Path
    done: int


def remaining(planned: list[tuple[Run, Path]]) -> list[Job]:
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
        checkpoint, _ = runs.state_of(run, folder)
        done = checkpoint.step if checkpoint else 0
        if not (checkpoint and checkpoint.ends(run)):
            jobs.append(Job(run, folder, done))
    one_of_each = {job.run.method: job.run for job in jobs}
    cost = {method: computed_per_step(run) for method, run in one_of_each.items()}
    return sorted(jobs, key=lambda job: cost[job.run.method] * (job.run.steps - job.done), reverse=True)


def execute(
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
        jobs: from `remaining`.
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
    saved = termination.saving() if workers.client is None else nullcontext()
    with lent(data, workers, out) as given, _progress(jobs, console, measured) as finished, saved:
        calls = [
            joblib.delayed(_work)(number, job.run, given[job.run.data_seed], job.folder, **options)
            for number, job in enumerate(jobs)
        ]

        def ended(number: int | None) -> None:
            if number is None:  # a worker was asked to end, be it alone: the command ends with it
                termination.ask()
            else:
                finished(jobs[number])

        in_parallel(calls, ended, out=out, workers=workers)


def in_parallel(calls: list[Any], ended: Callable[[Any], None], *, out: Path, workers: Workers) -> None:
    """Make delayed calls in processes of one thread each.

    Args:
        calls: from `joblib.delayed`.
        ended: is called with what each call returns, in the order in which they end.
        out: the experiment's folder, locked.
        workers: who makes the calls; one at a time without a cluster is this process.

    Raises:
        KeyboardInterrupt: at Ctrl-C, once the workers are gone, or the cluster was told.
    """
    if workers.client is not None:
        on_cluster(calls, ended, workers, out)
        return
    # glibc gives the memory of a step back to the system and takes it again at the next one; workers inherit this.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    count, hear = min(workers.jobs, len(calls)), partial(_hear_signals, os.getpid())
    with joblib.parallel_config("loky", inner_max_num_threads=1, initializer=hear):
        parallel = joblib.Parallel(n_jobs=count, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
        results = parallel(calls)
        try:
            for result in results:
                ended(result)
        except KeyboardInterrupt:
            # joblib's thread may find its work gone, and would print a traceback that tells the user nothing.
            threading.excepthook = lambda _: None
            warnings.filterwarnings("ignore", message=".*tasks have been successfully executed")
            raise
        finally:  # also at the end: idle workers would be waited for when the process exits
            if count > 1:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _hear_signals(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    termination.listen(parent)


def _work(number: int, run: Run, data: Data | Path, folder: Path, **options: Any) -> int | None:
    """Train a run; its number, or None where the worker was asked to end before."""
    if not termination.asked():
        with termination.ends_itself():
            train_in_worker(run, taken(data), folder, **options)
    return None if termination.asked() else number


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "")


@contextmanager
def _progress(jobs: list[Job], console: Console, measured: str) -> Iterator[Any]:
    """Show how far the jobs are, read off their folders; yields what to call when one is finished."""
    total = sum(job.run.steps - job.done for job in jobs)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=60,
        disable=not console.is_terminal,
    )
    task = bar.add_task(f"0 of {len(jobs)} runs", total=total)
    open_jobs, ended, closing = list(jobs), 0, threading.Event()

    def refresh() -> None:
        while not closing.wait(POLL_SECONDS):
            pending = list(open_jobs)
            behind = sum(job.run.steps - max(job.done, last_record(job.folder)["step"]) for job in pending)
            bar.update(task, completed=total - behind)

    def finished(job: Job) -> None:
        nonlocal ended
        open_jobs.remove(job)
        ended += 1
        bar.update(task, description=f"{ended} of {len(jobs)} runs")
        if not console.is_terminal:
            checkpoint = runs.read_checkpoint(job.folder, tensors=False)
            if checkpoint and checkpoint.diverged is not None:
                outcome = f"diverged after {plural(checkpoint.diverged, 'step')}"
            else:
                outcome = f"{measured} accuracy {100 * last_record(job.folder)['test_accuracy']:.1f}%"
            console.print(f"[{ended}/{len(jobs)}] {job.run.method}, seed {job.run.seed}, lr {job.run.lr:g}: {outcome}")

    thread = threading.Thread(target=refresh, daemon=True)
    with bar:
        thread.start()
        try:
            yield finished
        finally:
            closing.set()
            thread.join()


def last_record(folder: Path) -> runs.Record:
    """Read the last evaluation in a run's folder; step 0 where there is none yet."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
            record = json.loads(file.read().splitlines()[-1])
            return {"step": int(record["step"]), "test_accuracy": float(record["test_accuracy"])}
    except (OSError, ValueError, OverflowError, IndexError, KeyError, TypeError):
        return {"step": 0, "test_accuracy": 0.0}
