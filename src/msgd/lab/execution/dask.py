"""Jobs on the workers of a Dask cluster."""

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


def run_on_cluster(calls: list[Any], ended: Callable[[Any], None], workers: Workers, out: Path) -> None:
    """Make delayed calls on the workers of a cluster.

    Args:
        calls: from `joblib.delayed`.
        ended: is called with what each call returns, in the order in which they end.
        workers: with a client.
        out: the experiment's folder, locked by this process, which the workers must share.

    Raises:
        UserError: from a job; or a worker has another version of msgd or does not share the folder; or the
            cluster is gone.
    """
    from dask.distributed import as_completed

    client, travelling = workers.client, _portable_job()

    def submitted(call: Any) -> Any:
        # Bytes, so that the scheduler and a worker without msgd can take them, and say what is wrong.
        return client.submit(
            travelling, str(out), versions(), pickle.dumps(call), key=f"msgd-{uuid.uuid4().hex}", pure=False
        )

    waiting = iter(calls)
    futures = [submitted(call) for call in islice(waiting, workers.jobs)]
    flying = as_completed(futures, loop=client.loop)
    try:
        for future in flying:
            ended(future.result())
            futures.remove(future)
            for call in islice(waiting, 1):
                futures.append(submitted(call))
                flying.add(futures[-1])
    except ModuleNotFoundError as error:
        raise UserError(
            f"a worker of the Dask cluster lacks {error.name}: install there what is installed here, "
            f"msgd {versions()['msgd']}"
        ) from None
    except CancelledError:
        raise UserError(
            "the connection to the Dask cluster is lost: the same command continues where the runs were saved, "
            "once there is a scheduler again"
        ) from None
    finally:
        if client.status == "running":
            client.cancel(futures)


def _portable_job() -> Callable[..., Any]:
    def msgd_job(*arguments: Any) -> Any:
        from msgd.lab.execution.dask import make_call  # where it runs, and not with the job

        return make_call(*arguments)

    return msgd_job  # a function within a function is sent as code: who receives it needs no msgd


def make_call(out: str, expected: dict[str, str | None], call: bytes) -> Any:
    """Make a call on a worker of a cluster, if it sees what the command sees.

    Args:
        out: the experiment's folder, locked by the command.
        expected: the command's `versions`.
        call: pickled, as `joblib.delayed` made it.

    Returns:
        What the call returns.

    Raises:
        UserError: the worker cannot do the experiment's jobs.
    """
    from dask.distributed import get_worker

    where = f"the Dask worker on {platform.node()}"
    for name, mine in versions().items():
        theirs = expected.get(name)
        if mine != theirs and not (name == "commit" and None in (mine, theirs)):  # an installed package knows none
            raise UserError(f"{where} has {name} {mine}, and this command {theirs}: install the same there")
    if (threads := get_worker().state.nthreads) > 1:
        raise UserError(
            f"{where} has {threads} threads, and msgd trains one run in a process: start the workers with "
            f"--nworkers {threads} --nthreads 1 (dask-jobqueue: processes = cores)"
        )
    try:
        with FileLock(Path(out) / ".lock", timeout=0):
            held = False
    except Timeout:
        held = True  # by the command: it is the same folder, and locks work between the two machines
    except OSError:
        held = False
    if not held:
        raise UserError(
            f"{where} does not see that this command holds {out}: give --out a folder that all machines "
            "share, on a file system that locks files between them"
        )
    function, arguments, options = pickle.loads(call)
    return function(*arguments, **options)


def is_needed(parent: int | None) -> bool:
    """Whether somebody still waits for the job that this thread does.

    Args:
        parent: the process that it is for; None: a cluster, whose scheduler cancels the jobs of a command that is gone,
            and drops a worker that it does not hear of, which then closes.

    Returns:
        Whether to go on.
    """
    if parent is not None:
        return parent in (os.getpid(), os.getppid())
    from dask.distributed import Status, get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    alive = worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    return alive and task is not None and task.state == "executing"


def abandon(parent: int | None) -> None:
    """End a job that is not `wanted`.

    Args:
        parent: as in `wanted`.

    Raises:
        UserError: on a cluster, whose worker lives on; nobody will read it.
    """
    if parent is None:
        raise UserError("nobody waited for this job any more; the same command continues")
    os._exit(1)  # nobody would ever end this process
