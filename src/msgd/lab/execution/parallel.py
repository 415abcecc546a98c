"""Execute calls in parallel, in processes of this machine or on a cluster."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from msgd.lab.execution.dask import run_on_cluster
from msgd.lab.execution.signals import install_sigterm
from msgd.lab.execution.workers import Workers


def run_in_parallel(calls: list[Any], on_result: Callable[[Any], None], *, out: Path, workers: Workers) -> None:
    """Execute delayed calls in processes of one thread each.

    Args:
        calls: delayed calls from `joblib.delayed`.
        on_result: is called with the result of each call, in the order in which the calls finish.
        out: the experiment's folder, which must be locked.
        workers: the workers; with one job at a time and no cluster, the calls run in this process.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the workers have ended or the jobs on the cluster are cancelled.
    """
    if workers.client is not None:
        run_on_cluster(calls, on_result, workers, out)
        return
    # By default, glibc returns the memory of each step to the system and allocates it again; workers inherit these.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    count, initializer = min(workers.jobs, len(calls)), partial(_start_worker, os.getpid())
    with joblib.parallel_config("loky", inner_max_num_threads=1, initializer=initializer):
        parallel = joblib.Parallel(n_jobs=count, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
        results = parallel(calls)
        try:
            for result in results:
                on_result(result)
        except KeyboardInterrupt:
            # joblib's thread may fail because its jobs are gone; its traceback would not help the user.
            threading.excepthook = lambda _: None
            warnings.filterwarnings("ignore", message=".*tasks have been successfully executed")
            raise
        finally:  # also after success, because the process would wait for idle workers when it exits
            if count > 1:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends SIGINT to all processes; only the parent reacts
    install_sigterm(parent)
    if not os.environ.get("MSGD_DEBUG"):
        # An error of a job reaches the command, which reports it. What a worker that runs out of memory writes itself,
        # half a traceback, would only hide that line.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
