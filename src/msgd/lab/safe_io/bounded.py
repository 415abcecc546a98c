"""Files that somebody else may have written: read within bounds, and never written where a link leads.

The bounds are far beyond what msgd itself writes; they keep a file from taking the memory or the time of whoever reads
it. All readers raise OSError and ValueError alone, so that callers need to know no others.
"""

from __future__ import annotations

import errno
import json
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

TOML_BYTES = 2**19  #: of a recipe, or of what a folder says of its runs
TOML_LINE = 2000  #: characters; the time to read a line grows with its square
TOML_DEPTH = 16  #: tables within tables
INTEGER_BOUND = 2**63  #: TOML's whole numbers are below
JSON_BYTES = 2**24
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)

#: what steers a terminal or turns text around; tab and ends of lines are none
_CONTROL = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        limit: bytes that it may have.

    Returns:
        Its content.

    Raises:
        OSError: it is not there, cannot be read, or is no file: a pipe would be waited for, a device has no end.
        ValueError: it is larger.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return content


def check_regular(path: Path) -> None:
    """Refuse what is no file.

    Args:
        path: of the file; a link to one is one.

    Raises:
        OSError: it is not there, or a folder, a pipe or a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("no regular file")


def raise_unreadable(error: Exception) -> None:
    """Tell a file that the system keeps from being read from one that is damaged.

    Args:
        error: of reading it.

    Raises:
        OSError: the error, where it says nothing against what is in the file.
    """
    if isinstance(error, OSError) and error.errno in _UNREADABLE:
        raise error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file (see `read` and `parse_toml`)."""
    return parse_toml(read_bytes(path, TOML_BYTES).decode("utf-8"))


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Args:
        text: with lines of at most `TOML_LINE` characters.

    Returns:
        The table.

    Raises:
        ValueError: it is no TOML, has longer lines, tables nested more than `TOML_DEPTH` deep, or whole numbers of more
            than 64 bits.
    """
    if len(text) > TOML_BYTES:
        raise ValueError(f"more than {TOML_BYTES} characters")
    if max(map(len, text.split("\n"))) > TOML_LINE:
        raise ValueError(f"a line of more than {TOML_LINE} characters")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_values(table)
    return table


def check_values(table: dict[str, Any]) -> None:
    """Refuse what TOML may say and no recipe does.

    Args:
        table: from `tomllib`.

    Raises:
        ValueError: it is nested more than `TOML_DEPTH` deep, or has whole numbers of more than 64 bits.
    """
    level: list[Any] = [table]
    for _ in range(TOML_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                inner += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and not -INTEGER_BOUND <= value < INTEGER_BOUND:
                raise ValueError("a whole number of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"nested more than {TOML_DEPTH} deep")


def has_control(text: str) -> bool:
    """Whether a text would do something to a terminal, beside being shown."""
    return _CONTROL.search(text) is not None


def plain_line(text: str) -> str:
    """Refuse a text that is shown and is more than a line.

    Args:
        text: of a file.

    Returns:
        The text.

    Raises:
        ValueError: it has control characters or ends of lines.
    """
    if has_control(text) or any(c in text for c in "\t\n\r"):
        raise ValueError("it has control characters; write one line of text")
    return text


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file (see `read` and `parse_json`)."""
    return parse_json(read_bytes(path, limit))


def parse_json(content: bytes) -> Any:
    """Read JSON; NaN and infinities, which are none, are refused also where a number is too large for a float.

    Args:
        content: in UTF-8.

    Returns:
        The value.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return _JSON.decode(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("a number that is not finite")
    return number


_JSON = json.JSONDecoder(parse_constant=_not_json, parse_float=_finite)
