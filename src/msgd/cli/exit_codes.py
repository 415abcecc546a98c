"""Error messages and exit codes: a command that fails prints one line that names the remedy, not a traceback."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from msgd.cli.streams import reader_is_gone
from msgd.lab.errors import Terminated, UserError, missing_package, one_line
from msgd.lab.execution.signals import sigterm_raises

#: messages by the name of the error's class, because joblib and distributed may not be installed
_LOST_WORKERS = {
    "TerminatedWorkerError": "a worker was killed (out of memory?); give the same command again to continue, "
    "with --jobs 1 to need less memory",
    # A worker that lacks the memory to read its job.
    "BrokenProcessPool": "a worker could not read its job (out of memory?); give the same command again to continue, "
    "with --jobs 1 to need less memory",
    "KilledWorker": "the workers that ran one job died repeatedly (out of memory?); give the same command again to "
    "continue; to allow more retries, raise distributed.scheduler.allowed-failures in the scheduler's configuration",
}

#: what the user can do about an error of the operating system
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EFBIG: "the file would exceed the limit on file sizes: raise it (ulimit -f)",
    errno.ENOMEM: "there is not enough memory: give --jobs 1, or set micro_batch in the recipe",
    errno.EROFS: "the file system is read-only: make it writable, or give another folder with --out",
    errno.EACCES: "you may not use this folder or file: change its permissions, or give another folder with --out",
}

_NO_ROOM = "failed to map segment"  #: what the dynamic loader says when there is no memory for a library
_TORCH_BYTES = 720 * 2**20  #: less address space than any build of torch needs; with less it may abort the process
_RAISE = "raise the limit on memory (ulimit -v)"

_CONTINUES = "the same command continues where the runs were saved"


@contextmanager
def report_errors(*, torch: bool = True) -> Iterator[None]:
    """Turn an exception raised in the block into one line on standard error and an exit code.

    Args:
        torch: whether the block imports torch.

    Yields:
        Nothing.

    Raises:
        Exit: with code 2 if the user can fix the cause, 1 for any other error, 130 after Ctrl-C, 143 after SIGTERM.
        BrokenPipeError: the reader of standard output has ended; the command line ends without a word.
    """
    try:
        with sigterm_raises():
            _check_arguments()
            if torch:
                _check_memory()
            yield
    except KeyboardInterrupt as error:
        word, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        typer.echo(f"msgd: {word}; {_CONTINUES}", err=True)
        raise typer.Exit(code) from None
    except typer.Exit:
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            raise
        line, code = _message_and_code(error)
        if line is None:
            if os.environ.get("MSGD_DEBUG"):
                raise
            line = (
                f"a bug in msgd: {one_line(repr(error))}; please report it with the traceback that MSGD_DEBUG=1 shows"
            )
        typer.echo(f"msgd: {one_line(line)}", err=True)
        raise typer.Exit(code) from None


def _check_arguments() -> None:
    """Refuse arguments that are not UTF-8: the report and the files of a run could not hold them.

    Raises:
        UserError: there is such an argument.
    """
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(f"{argument} is not a name in UTF-8: rename the file, or give another name") from None


def _message_and_code(error: Exception) -> tuple[str | None, int]:
    """The message for an error, None if the error is a bug in msgd, and the exit code."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0)
        return (f"{error}; {remedy}; {_CONTINUES}" if remedy else str(error)), 2
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error), 2
    if isinstance(error, ImportError | SystemError) and (_NO_ROOM in str(error) or _memory_limit() < math.inf):
        return f"there is not enough memory to load torch ({error}): {_RAISE}", 2
    if type(error).__name__ in _LOST_WORKERS:
        return _LOST_WORKERS[type(error).__name__], 1
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        why = str(error).partition("\n")[0].strip() or type(error).__name__
        return (
            f"there is not enough memory ({why}): give --jobs 1, or set micro_batch in the recipe; {_CONTINUES}",
            1,
        )
    return None, 1


def _check_memory() -> None:
    """Refuse to import torch where this is bound to fail, because it may abort the process.

    Raises:
        UserError: the limit on memory is too low.
    """
    if (limit := _memory_limit()) < _TORCH_BYTES:
        raise UserError(f"{limit / 2**20:.0f} MiB of memory are too few to load torch: {_RAISE}")


def _memory_limit() -> float:
    """The largest address space of this process in bytes, as ``ulimit -v`` sets it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit
