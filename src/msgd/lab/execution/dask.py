"""Run jobs on the workers of a Dask cluster."""

from __future__ import annotations

import os
import pickle
import platform
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from msgd.lab.errors import UserError
from msgd.lab.execution.environment import versions
from msgd.lab.execution.workers import Workers


def run_on_cluster(calls: list[Any], on_result: Callable[[Any], None], workers: Workers, out: Path) -> None:
    """Execute delayed calls on the workers of a cluster.

    Args:
        calls: delayed calls from `joblib.delayed`.
        on_result: is called with the result of each call, in the order in which the calls finish.
        workers: the workers, with the client of the cluster.
        out: the experiment's folder, locked by this process; the workers must share it.

    Raises:
        UserError: a job raised it, a worker has another version of msgd or does not share the folder, or the
            connection to the cluster is lost.
    """
    from dask.distributed import as_completed

    client, job = workers.client, _portable_job()

    def submit(call: Any) -> Any:
        # Pickled, so that the scheduler and a worker without msgd can receive the call and report what is wrong.
        return client.submit(job, str(out), versions(), pickle.dumps(call), key=f"msgd-{uuid.uuid4().hex}", pure=False)

    waiting = iter(calls)
    futures = [submit(call) for call in islice(waiting, workers.jobs)]
    completed = as_completed(futures, loop=client.loop)
    try:
        for future in completed:
            on_result(future.result())
            futures.remove(future)
            for call in islice(waiting, 1):
                futures.append(submit(call))
                completed.add(futures[-1])
    except ModuleNotFoundError as error:
        raise UserError(
            f"a worker of the Dask cluster lacks {error.name}: install the same packages there as here, "
            f"with msgd {versions()['msgd']}"
        ) from None
    except CancelledError:
        raise UserError(
            "the connection to the Dask cluster is lost: the same command continues where the runs were saved, "
            "once a scheduler is running again"
        ) from None
    finally:
        if client.status == "running":
            client.cancel(futures)


def _portable_job() -> Callable[..., Any]:
    def msgd_job(*arguments: Any) -> Any:
        # Imported within the job, so that a missing module is an error of the job, which the command receives.
        from msgd.lab.execution.dask import make_call

        return make_call(*arguments)

    return msgd_job  # a nested function is sent as code, so the receiver needs no msgd


def make_call(out: str, expected: dict[str, str | None], call: bytes) -> Any:
    """Execute a call on a worker of a cluster, after checking its versions, its threads and the shared folder.

    Args:
        out: the experiment's folder, locked by the command.
        expected: `versions` of the command.
        call: a pickled call from `joblib.delayed`.

    Returns:
        The result of the call.

    Raises:
        UserError: the worker fails one of these checks.
    """
    from dask.distributed import get_worker

    where = f"the Dask worker on {platform.node()}"
    for name, mine in versions().items():
        theirs = expected.get(name)
        if mine != theirs and not (name == "commit" and None in (mine, theirs)):  # an installed package has no commit
            raise UserError(f"{where} has {name} {mine}, and this command has {theirs}: install the same version there")
    if (threads := get_worker().state.nthreads) > 1:
        raise UserError(
            f"{where} has {threads} threads, but msgd trains one run in each process: start the workers with "
            f"--nworkers {threads} --nthreads 1 (dask-jobqueue: processes = cores)"
        )
    try:
        with FileLock(Path(out) / ".lock", timeout=0):
            is_locked = False
    except Timeout:
        is_locked = True  # by the command, so the folder is the same, and locks work between the two machines
    except OSError:
        is_locked = False
    if not is_locked:
        raise UserError(
            f"{where} does not see the lock of this command on {out}: give --out a folder that all machines "
            "share, on a file system that supports locks between machines"
        )
    function, arguments, options = pickle.loads(call)
    return function(*arguments, **options)


def is_needed(parent: int | None) -> bool:
    """Whether the command still waits for the job of this thread.

    Args:
        parent: id of the command's process; None on a cluster. The scheduler of a cluster cancels the jobs of a command
            that has ended, and removes a worker that it cannot reach; the worker then closes.

    Returns:
        True if the job should continue.
    """
    if parent is not None:
        return parent in (os.getpid(), os.getppid())
    from dask.distributed import Status, get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    alive = worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    return alive and task is not None and task.state == "executing"


def abandon(parent: int | None) -> None:
    """End a job that is no longer needed (see `is_needed`).

    Args:
        parent: as in `is_needed`.

    Raises:
        UserError: on a cluster, where the worker process must survive; nobody reads the message.
    """
    if parent is None:
        raise UserError("no command waits for this job any more; the same command continues")
    os._exit(1)  # no other process would end this one
