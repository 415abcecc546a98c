"""Trains one run in a worker process."""

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
from msgd.lab.plan.portable import PortableRun, received
from msgd.lab.plan.run import Run
from msgd.lab.training.data_parallel import process_count
from msgd.lab.training.loop import ORPHAN_SECONDS, train


def train_job(number: int, run: Run | PortableRun, data: Data | Path, folder: Path, **options: Any) -> int | None:
    """Train a run; return its number, or None if the worker received a request to stop before the run's end."""
    if not stop_requested():
        with saves_itself():
            train_in_worker(received(run), fetch_data(data), folder, **options)
    return None if stop_requested() else number


#: maximum time until a worker that its cluster has lost stops, and until a file server releases a dead host's locks
LOST_SECONDS = 600


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
    """Train one run on one thread, and stop if the process that started the job no longer runs.

    Under torchrun, a process keeps the threads that torchrun gave it (one, unless OMP_NUM_THREADS is set).

    Args:
        run: the run to train.
        data: the data set.
        folder: the run's folder.
        device: "cpu" or "cuda".
        environment: the environment, which is written to the run's folder; a cluster's worker records its own.
        parent: the process that needs the job, see `is_needed`; a job that is no longer needed ends within `STRETCH`
            steps.
        events: also write TensorBoard's event file.

    Raises:
        UserError: the folder holds another run or is damaged, or this worker lacks the device.
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
