"""Exceptions in the user's own code, as one line that names the file and the line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgd
from msgd.lab.errors import UserError

_SCHEME = ("stdlib", "platstdlib", "purelib", "platlib")
_NOT_OWN = (str(Path(msgd.__file__).parent), *(sysconfig.get_path(name) for name in _SCHEME))


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Turn an exception of the user's own code into one line.

    Args:
        what: name of the code, for messages.

    Yields:
        Nothing.

    Raises:
        UserError: an exception was raised in the block.
        OSError: the command line explains it itself.
        MemoryError: the command line explains it itself.
        SystemExit: while debugging.
    """
    try:
        yield
    except (UserError, MemoryError, OSError):
        raise
    except (Exception, SystemExit) as error:
        is_explained = isinstance(error, RuntimeError) and "not enough memory" in str(error)
        if is_explained or os.environ.get("MSGD_DEBUG"):
            raise
        raise UserError(describe_fault(error, what)) from error


def describe_fault(error: BaseException, what: str) -> str:
    """Describe an exception with the last line of the user's code that it passed through.

    Args:
        error: the exception.
        what: name of the code, where no line of it can be named.

    Returns:
        A line such as ``task.py, line 12, in loss: ValueError: …; MSGD_DEBUG=1 shows the traceback``.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own_file(frame.filename)]
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else what
    message = str(error).strip().partition("\n")[0]
    return f"{where}: {type(error).__name__}{f': {message}' if message else ''}; MSGD_DEBUG=1 shows the traceback"


def is_own_file(filename: str) -> bool:
    """Whether a file is the user's own: not of msgd, of Python, or of an installed package."""
    return not filename.startswith("<frozen") and not filename.startswith(_NOT_OWN)
