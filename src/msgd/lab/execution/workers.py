"""Connect to the workers of a command: processes of this machine, or the workers of a Dask cluster.

Jobs are submitted with Dask's own client. joblib's Dask backend (1.6) has two faults: if the cluster has one thread, it
executes the calls in the command's process, and it waits forever for a job that Dask gave up because its workers died.

A worker may be lost at any moment. Dask then gives its job to another worker, which waits for the lock of the run's
folder and continues from the checkpoint there. A worker that is only disconnected may still be running: it holds the
lock until it notices (see `is_needed`).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from msgd.lab.errors import UserError
from msgd.lab.text import plural

Backend = Literal["loky", "dask"]
CONNECT_SECONDS = 30
NO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass(frozen=True)
class Workers:
    """The workers that run the jobs of a command.

    Args:
        jobs: number of jobs at a time.
        client: client of a Dask cluster; None for processes of this machine.
        description: description of the cluster for the user, if there is one.
    """

    jobs: int
    client: Any = None
    description: str | None = None

    @property
    def parent(self) -> int | None:
        """Id of the process that jobs must not outlive; None on a cluster (see `is_needed`)."""
        return None if self.client else os.getpid()


@contextmanager
def connect_workers(backend: str, address: str | None, jobs: int | None) -> Iterator[Workers]:
    """Connect to the workers, before the command writes anything.

    Args:
        backend: "loky" or "dask".
        address: address of the scheduler of a running Dask cluster. None for the address in Dask's configuration
            (``DASK_SCHEDULER_ADDRESS``) or, without one, a cluster on this machine that ends with the command.
        jobs: number of jobs at a time; None for one per core, or as many as the cluster can run.

    Yields:
        The workers.

    Raises:
        UserError: the backend is unknown or not installed, or the cluster cannot be reached.
    """
    check_backend(backend, address)
    if backend == "loky":
        import joblib

        yield Workers(jobs or int(joblib.cpu_count()))
        return
    import dask
    from dask.distributed import Client, LocalCluster

    _silence()
    address = address or dask.config.get("scheduler-address", None)
    if address is None:
        count = jobs or os.cpu_count() or 1
        # No memory limit: Dask would divide the machine's memory and kill a worker that needs more than its share.
        local = {"memory_limit": 0, "dashboard_address": ":0", "preload": NO_CTRL_C, "silence_logs": logging.CRITICAL}
        with LocalCluster(n_workers=count, threads_per_worker=1, **local) as cluster, Client(cluster) as client:
            yield Workers(
                count, client, f"Dask cluster on this machine: {plural(count, 'worker')} with one thread each"
            )
        return
    if not re.search(r":\d+/?$", address):  # Dask's client would report this, but wait for a minute
        raise UserError(f"--address {address}: give the address that dask scheduler printed, such as tcp://HOST:8786")
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address} ({error}): give --address what dask scheduler printed, "
            "such as tcp://HOST:8786"
        ) from None
    with client:
        count = len(client.nthreads())
        description = f"Dask cluster at {address}: " + (
            plural(count, "worker") if count else "no workers yet, waiting for them"
        )
        yield Workers(jobs or 2**30, client, description)


def check_backend(backend: str, address: str | None) -> None:
    """Check the options, and that Dask is installed if it is needed.

    Args:
        backend: value of the option ``--backend``.
        address: value of the option ``--address``.

    Raises:
        UserError: the backend is unknown, does not use an address, or is not installed.
    """
    if backend not in get_args(Backend):
        raise UserError(f"--backend: {backend!r} is not known; write {' or '.join(get_args(Backend))}")
    if backend == "loky" and address is not None:
        raise UserError("--address is the address of a Dask cluster: add --backend dask")
    if backend == "dask":
        try:
            import dask.distributed  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(f"--backend dask: {error.name} is not installed: pip install 'dask[distributed]'") from None


def _silence() -> None:
    """Turn Dask's log off: it would mix with the progress, and a command reports its errors in one line."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
