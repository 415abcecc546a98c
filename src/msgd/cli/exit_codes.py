"""How a command ends: what went wrong in one line that names the remedy, and an exit code; never a traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from msgd.lab.errors import Terminated, UserError, one_line
from msgd.lab.execution.signals import sigterm_raises

#: errors by their names: joblib and distributed may not be installed
_KILLED = {
    "TerminatedWorkerError": "a worker was killed (out of memory?); the same command continues, --jobs 1 needs less",
    "KilledWorker": "the workers of a job died time and again (out of memory?); the same command continues, "
    "distributed.scheduler.allowed-failures in the scheduler's configuration lets more of them die",
}

#: what a user can do about an error of the operating system
_REMEDIES = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "your share of the disk is used up: make room",
    errno.EFBIG: "a file may not be that large here: raise the limit (ulimit -f)",
    errno.ENOMEM: "there is not enough memory: --jobs 1, or micro_batch in the recipe, needs less",
    errno.EROFS: "the folder cannot be written: make it writable, or give another one with --out",
    errno.EACCES: "the folder or file is not yours to use: change its permissions, or give another one with --out",
}

_CONTINUES = "the same command continues where the runs were saved"


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what goes wrong within into a line and an exit code.

    Yields:
        Nothing.

    Raises:
        Exit: 2 for what the user must mend, 1 for what may be nobody's fault, 130 at Ctrl-C, 143 at SIGTERM.
    """
    try:
        with sigterm_raises():
            yield
    except KeyboardInterrupt as error:
        word, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        typer.echo(f"msgd: {word}; {_CONTINUES}", err=True)
        raise typer.Exit(code) from None
    except typer.Exit:
        raise
    except Exception as error:
        line, code = _ending(error)
        if line is None:
            if os.environ.get("MSGD_DEBUG"):
                raise
            line = f"a fault of msgd: {one_line(repr(error))}; MSGD_DEBUG=1 shows where, please report it"
        typer.echo(f"msgd: {one_line(line)}", err=True)
        raise typer.Exit(code) from None


def _ending(error: Exception) -> tuple[str | None, int]:
    """What to say of an error, None where it is a fault of msgd; and the exit code."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0)
        return (f"{error}; {remedy}; {_CONTINUES}" if remedy else str(error)), 2
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: pip install 'msgd[lab]'", 2
    if type(error).__name__ in _KILLED:
        return _KILLED[type(error).__name__], 1
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        why = str(error).partition("\n")[0].strip() or type(error).__name__
        return (
            f"there is not enough memory ({why}); --jobs 1, or micro_batch in the recipe, needs less; {_CONTINUES}",
            1,
        )
    return None, 1
