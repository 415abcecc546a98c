"""Sends runs with code of the user's own to other processes, which load the same files first."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import lru_cache

from msgd.lab.plan.run import Run
from msgd.lab.tasks.code import Code


@dataclass(frozen=True)
class PortableRun:
    """A run in a form that any process can receive.

    Args:
        code: the files to load before the content is read; None if the functions themselves are sent.
        content: the pickled run.
    """

    code: Code | None
    content: bytes


def portable(run: Run) -> Run | PortableRun:
    """Prepare a run for sending.

    Args:
        run: the run.

    Returns:
        The run itself, unless code of the user's own belongs to it.
    """
    if run.own.is_nothing:
        return run
    import cloudpickle

    return PortableRun(run.own.code, cloudpickle.dumps(run))


def received(run: Run | PortableRun) -> Run:
    """Unpack what `portable` returned.

    Args:
        run: the run, or its portable form.

    Returns:
        The run.

    Raises:
        UserError: a file is missing here, or differs from that of the command.
    """
    return _unpack(run) if isinstance(run, PortableRun) else run


@lru_cache(maxsize=4)
def _unpack(sent: PortableRun) -> Run:
    if sent.code is not None:
        sent.code.load()
    run: Run = pickle.loads(sent.content)
    return run
