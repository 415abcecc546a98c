"""Calls made in parallel, by processes of this machine or by a cluster."""

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


def run_in_parallel(calls: list[Any], ended: Callable[[Any], None], *, out: Path, workers: Workers) -> None:
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
        run_on_cluster(calls, ended, workers, out)
        return
    # glibc gives the memory of a step back to the system and takes it again at the next one; workers inherit this.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    count, hear = min(workers.jobs, len(calls)), partial(_install_signals, os.getpid())
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


def _install_signals(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    install_sigterm(parent)
