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
import pickle
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from msgd.errors import UserError
from msgd.lab.data import Data, read_data, write_data
from msgd.lab.environment import versions
from msgd.lab.files import check_inside
from msgd.lab.verdict import plural

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
def connected(backend: str, address: str | None, jobs: int | None) -> Iterator[Workers]:
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


def on_cluster(calls: list[Any], ended: Callable[[Any], None], workers: Workers, out: Path) -> None:
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

    client, travelling = workers.client, _travelling()

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


def _travelling() -> Callable[..., Any]:
    def msgd_job(*arguments: Any) -> Any:
        from msgd.lab.backends import make_call

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


def wanted(parent: int | None) -> bool:
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


def give_up(parent: int | None) -> None:
    """End a job that is not `wanted`.

    Args:
        parent: as in `wanted`.

    Raises:
        UserError: on a cluster, whose worker lives on; nobody will read it.
    """
    if parent is None:
        raise UserError("nobody waited for this job any more; the same command continues")
    os._exit(1)  # nobody would ever end this process


@contextmanager
def lent(loaded: Mapping[int, Data], workers: Workers, out: Path) -> Iterator[Mapping[int, Data | Path]]:
    """Hand data to jobs: as they are in this machine, and by files in the shared folder to a cluster.

    A file is read once by each worker, and is there for one that comes later; what a scheduler holds would go through
    its memory, and what workers hold is lost with them.

    Args:
        loaded: data sets.
        workers: who will do the jobs.
        out: the experiment's folder.

    Yields:
        What `taken` takes, by the same keys.
    """
    if workers.client is None:
        yield loaded
        return
    folder = out.absolute() / ".data"
    check_inside(folder, out.absolute())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        paths: dict[int, Data | Path] = {}
        for key, data in loaded.items():
            paths[key] = path = folder / f"{uuid.uuid4().hex}.npz"
            write_data(data, path)
        yield paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def taken(data: Data | Path) -> Data:
    """What `lent` handed out."""
    return data if isinstance(data, Data) else _read_once(data)


_read_once = lru_cache(maxsize=2)(read_data)
