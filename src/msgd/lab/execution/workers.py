"""Where the jobs of a command are done: in processes of this machine, or by the workers of a Dask cluster.

Jobs go to Dask by its own client. joblib's Dask backend (1.6) makes the calls in the command's own process where the
cluster has one thread, and waits forever for a job that is given up because its workers died.

A worker may be lost at any moment; Dask gives its job to another one, which waits for the lock of the run's folder and
continues from the checkpoint there. A worker that is cut off from the cluster may still be at work then: it holds the
lock until it notices (see `wanted`).
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
    """Who does the jobs.

    Args:
        jobs: at a time.
        client: of a Dask cluster; None: processes of this machine.
        about: says so to the user, where it is a cluster.
    """

    jobs: int
    client: Any = None
    about: str | None = None

    @property
    def parent(self) -> int | None:
        """The process that jobs must not outlive; None where they are done for a cluster, see `wanted`."""
        return None if self.client else os.getpid()


@contextmanager
def connect_workers(backend: str, address: str | None, jobs: int | None) -> Iterator[Workers]:
    """Connect to those who are to do the jobs, before anything is written.

    Args:
        backend: "loky" or "dask".
        address: of the scheduler of a Dask cluster, which stays as it is. None: the one in Dask's configuration
            (``DASK_SCHEDULER_ADDRESS``), or else a cluster on this machine for the time of the command.
        jobs: at a time; None: one for each core, or all that the cluster can do.

    Yields:
        The workers.

    Raises:
        UserError: the backend is not there, or the cluster cannot be reached.
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
        # No limit of memory: Dask would share out the machine's and kill what needs more than its share.
        local = {"memory_limit": 0, "dashboard_address": ":0", "preload": NO_CTRL_C, "silence_logs": logging.CRITICAL}
        with LocalCluster(n_workers=count, threads_per_worker=1, **local) as cluster, Client(cluster) as client:
            yield Workers(count, client, f"Dask cluster of this machine: {plural(count, 'worker')} of one thread")
        return
    if not re.search(r":\d+/?$", address):  # Dask's client would say so, and then wait for a minute
        raise UserError(f"--address {address}: give what dask scheduler printed, as tcp://HOST:8786")
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address} ({error}): give --address what dask scheduler printed, "
            "as tcp://HOST:8786"
        ) from None
    with client:
        count = len(client.nthreads())
        about = f"Dask cluster at {address}: " + (
            plural(count, "worker") if count else "no workers yet, waiting for them"
        )
        yield Workers(jobs or 2**30, client, about)


def check_backend(backend: str, address: str | None) -> None:
    """Check the options, and that the extra is installed.

    Args:
        backend: as the user named it.
        address: of a cluster.

    Raises:
        UserError: there is no such backend, or it lacks something.
    """
    if backend not in get_args(Backend):
        raise UserError(f"--backend: {backend!r} is none of {', '.join(get_args(Backend))}")
    if backend == "loky" and address is not None:
        raise UserError("--address is of a cluster: add --backend dask")
    if backend == "dask":
        try:
            import dask.distributed  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(f"--backend dask: {error.name} is not installed: pip install 'msgd[dask]'") from None


def _silence() -> None:
    """Dask's own log would mix with the progress; what ends a command is said in one line."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
