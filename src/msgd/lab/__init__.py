"""The laboratory: experiments that compare kinds of noise, from the command line or from Python.

From Python: `compare` trains methods and returns a `Result`, `load` reads the folder of an experiment, and `Task` holds
one's own data, network, loss and scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgd.lab.api.comparison import compare
    from msgd.lab.api.result import Result, load
    from msgd.lab.tasks.task import Task

__all__ = ["Result", "Task", "compare", "load"]

_HOME = {"compare": "api.comparison", "Result": "api.result", "load": "api.result", "Task": "tasks.task"}


def __getattr__(name: str) -> Any:
    """Import a name when it is used first: the workers need none of them."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
