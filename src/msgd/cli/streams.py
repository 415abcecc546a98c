"""The standard streams of a command: characters that they cannot hold, and streams that are closed."""

from __future__ import annotations

import codecs
import os
import select
import sys
from contextlib import suppress
from io import TextIOWrapper

#: what stands for the characters in msgd's own texts where the encoding of a stream lacks them
PLAIN = {
    "…": "...",
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "∞": "inf",
    "‖": "||",
    "“": '"',
    "”": '"',
    "’": "'",
    "←": "<-",
    "→": "->",
    "α": "alpha",
    "β": "beta",
    "η": "eta",
    "λ": "lambda",
    "μ": "mu",
    "σ": "sigma",
    "θ": "theta",
}


def prepare_streams() -> None:
    """Make standard output and standard error take every text, whatever their encoding and even if they are closed.

    A character that a stream cannot hold is replaced. A closed stream leads to the null device, because otherwise the
    next file that is opened would take its number and receive what libraries print.
    """
    codecs.register_error("msgd.plain", _replace)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with suppress(OSError):  # a file that was replaced by a pipe cannot seek; the setting holds all the same
                stream.reconfigure(errors="msgd.plain")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in text), error.end


def reader_is_gone() -> bool:
    """Whether standard output is a pipe whose reader has ended, as ``head`` does after its lines."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return bool(watched.poll(0))  # only errors and the end of the reader are reported
    except (AttributeError, OSError, ValueError):  # no poll on this system, or a stream that is no file
        return False
