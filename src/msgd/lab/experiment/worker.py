"""One run, trained in a worker process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from msgd.lab.data.dataset import Data
from msgd.lab.data.device import check_device
from msgd.lab.execution.dask import abandon, is_needed
from msgd.lab.execution.environment import describe_environment
from msgd.lab.execution.shared_data import fetch_data
from msgd.lab.execution.signals import saves_itself, stop_requested
from msgd.lab.plan.run import Run
from msgd.lab.training.data_parallel import process_count
from msgd.lab.training.loop import ORPHAN_SECONDS, train


def train_job(number: int, run: Run, data: Data | Path, folder: Path, **options: Any) -> int | None:
    """Train a run; its number, or None where the worker was asked to end before."""
    if not stop_requested():
        with saves_itself():
            train_in_worker(run, fetch_data(data), folder, **options)
    return None if stop_requested() else number


LOST_SECONDS = 600  #: the same of a worker that a cluster has lost, and of a file server with the locks of a dead host


def train_in_worker(
    run: Run,
    data: Data,
    folder: Path,
    *,
    device: str,
    environment: dict[str, Any],
    parent: int | None,
    events: bool,
) -> None:
    """Train one run as a job of the runner: on one thread, and no longer than the process that asked for it.

    The processes of torchrun keep the threads that it gave them (one, unless OMP_NUM_THREADS says otherwise).

    Args:
        run: as in `train`.
        data: as in `train`.
        folder: as in `train`.
        device: as in `train`.
        environment: as in `train`; a cluster's worker records its own.
        parent: for whom, see `backends.wanted`; a job that nobody wants any more ends within `STRETCH` steps.
        events: as in `train`.

    Raises:
        UserError: as `train`; or this worker has no such device.
    """
    if process_count() == 1:
        torch.set_num_threads(1)
    patience = ORPHAN_SECONDS
    check_device(device)
    if parent is None:
        environment = describe_environment(device) | {key: environment[key] for key in ("command", "processes_per_run")}
        patience = LOST_SECONDS
    train(
        run,
        data,
        folder,
        device=device,
        environment=environment,
        go_on=lambda: is_needed(parent) and not stop_requested(),
        patience=patience,
        events=events,
    )
    if not is_needed(parent):
        abandon(parent)
