"""SIGTERM, by which a scheduler ends a command: training is saved where it is, and the same command goes on from there.

A scheduler may send it to the command alone or to its workers as well, once or several times: it is the same request.
A worker whose command is gone takes it as one, too.
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
_saving = threading.Event()  # see `ends_itself`


def stop_requested() -> bool:
    """Whether this process was asked to end, and has work that it is to save."""
    return _stop.is_set()


def install_sigterm(parent: int) -> None:
    """Take note of SIGTERM from now on, for the time of a worker: it is to save its run and do no other.

    Args:
        parent: the command's process, which may be gone already.
    """
    signal.signal(signal.SIGTERM, lambda *_: _stop.set())
    threading.Thread(target=_outlive, args=(parent,), daemon=True).start()


def _outlive(parent: int) -> None:
    """End this process once its parent is gone: an idle worker would wait for jobs for minutes."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    _stop.set()
    while _saving.is_set():
        time.sleep(WATCH_SECONDS)
    os._exit(1)


@contextmanager
def saves_itself() -> Iterator[None]:
    """Say that what is under way looks at `asked`, saves what it has, and ends."""
    before = _saving.is_set()
    _saving.set()
    try:
        yield
    finally:
        if not before:
            _saving.clear()


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM an exception, for the time of a command.

    Yields:
        Nothing.

    Raises:
        Terminated: at SIGTERM, but within `saving` only at the end.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
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
    """Hand SIGTERM on to the workers, which save their runs, and wait for them; for the time of a command's training.

    Yields:
        Nothing.

    Raises:
        Terminated: there was one.
    """
    try:
        with saves_itself():
            yield
    except Exception as error:  # a worker that was asked before it listened was killed
        if stop_requested():
            raise Terminated from error
        raise
    if stop_requested():
        raise Terminated


def request_stop() -> None:
    """Do what SIGTERM does.

    Raises:
        Terminated: at once, but within `saving` only at its end.
    """
    if not _saving.is_set():
        raise Terminated
    _stop.set()
    for worker in multiprocessing.active_children():
        if worker.pid:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
