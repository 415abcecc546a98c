"""Handle SIGTERM, with which a scheduler ends a command: runs are saved, and the same command continues them later.

The command ends with exit code 143.

A scheduler may send SIGTERM to the command only, or also to its workers, once or several times; all of these are the
same request. A worker whose command has ended treats that as the same request.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from msgd.lab.errors import Terminated

WATCH_SECONDS = 0.5
_stop = threading.Event()
_saving = threading.Event()  # see `saves_itself`


def stop_requested() -> bool:
    """Whether this process should save its work and end."""
    return _stop.is_set()


def install_sigterm(parent: int) -> None:
    """Make SIGTERM a request to a worker to save its run and start no other.

    Args:
        parent: id of the command's process, which may have ended already.
    """
    signal.signal(signal.SIGTERM, lambda *_: _stop.set())
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    """End this process soon after its parent has ended; an idle worker would wait for jobs for minutes."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    _stop.set()
    while _saving.is_set():
        time.sleep(WATCH_SECONDS)
    os._exit(1)


@contextmanager
def saves_itself() -> Iterator[None]:
    """Mark a block that checks `stop_requested`, saves its work, and ends."""
    before = _saving.is_set()
    _saving.set()
    try:
        yield
    finally:
        if not before:
            _saving.clear()


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception while a command runs.

    Yields:
        Nothing.

    Raises:
        Terminated: at SIGTERM; within `sigterm_saves`, only at the end of that block.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: request_stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop.clear()


@contextmanager
def sigterm_saves() -> Iterator[None]:
    """Pass SIGTERM on to the workers, which save their runs, and wait for them.

    Yields:
        Nothing.

    Raises:
        Terminated: at the end of the block, if SIGTERM was received.
    """
    try:
        with saves_itself():
            yield
    except Exception as error:  # SIGTERM kills a worker that has not installed its handler yet
        if stop_requested():
            raise Terminated from error
        raise
    if stop_requested():
        raise Terminated


def request_stop() -> None:
    """Do what SIGTERM does: pass the request on to the workers, or raise at once if there is nothing to save.

    Raises:
        Terminated: immediately, except within `sigterm_saves`, which raises it at its end.
    """
    if not _saving.is_set():
        raise Terminated
    _stop.set()
    for worker in multiprocessing.active_children():
        if worker.pid:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
