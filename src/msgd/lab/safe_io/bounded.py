"""Readers with bounds, for files that somebody else may have written.

The bounds are far above anything that msgd itself writes. They stop a file from using up the memory or the time of the
reader. Every reader raises only OSError and ValueError, so callers need to handle no other exception.
"""

from __future__ import annotations

import errno
import json
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

TOML_BYTES = 2**19  #: largest size of a recipe, or of a TOML file in an experiment's folder
TOML_LINE = 2000  #: largest number of characters in a line; the time to parse a line grows with its square
TOML_DEPTH = 16  #: largest depth of nested tables
INTEGER_BOUND = 2**63  #: TOML integers lie in [-2⁶³, 2⁶³)
JSON_BYTES = 2**24  #: largest size of a JSON file
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)

#: characters that control a terminal or reverse the direction of text; tabs and line ends are not among them
_CONTROL = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        limit: largest size in bytes.

    Returns:
        The content of the file.

    Raises:
        OSError: the file is missing, cannot be read, or is not a regular file. (Reading a pipe would block, and a
            device has no end.)
        ValueError: the file is larger than the limit.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return content


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file.

    Args:
        path: of a file, or of a link to one.

    Raises:
        OSError: the path does not exist, or is a folder, a pipe or a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")


def raise_unreadable(error: Exception) -> None:
    """Raise an error again if the operating system could not read the file, which does not mean that it is damaged.

    Args:
        error: the exception that a reader raised.

    Raises:
        OSError: the error, if it says nothing about the content of the file.
    """
    if isinstance(error, OSError) and error.errno in _UNREADABLE:
        raise error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file (see `read_bytes` and `parse_toml`)."""
    return parse_toml(read_bytes(path, TOML_BYTES).decode("utf-8"))


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Args:
        text: the TOML, with lines of at most `TOML_LINE` characters.

    Returns:
        The table.

    Raises:
        ValueError: the text is not TOML, is longer than `TOML_BYTES`, has a longer line, tables nested more than
            `TOML_DEPTH` deep, or an integer of more than 64 bits.
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
    """Check the depth and the integers of a TOML table.

    Args:
        table: from `tomllib`.

    Raises:
        ValueError: the table is nested more than `TOML_DEPTH` deep, or has an integer of more than 64 bits.
    """
    level: list[Any] = [table]
    for _ in range(TOML_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                inner += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and not -INTEGER_BOUND <= value < INTEGER_BOUND:
                raise ValueError("an integer of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"nested more than {TOML_DEPTH} deep")


def has_control(text: str) -> bool:
    """Whether a text has characters that would control a terminal."""
    return _CONTROL.search(text) is not None


def plain_line(text: str) -> str:
    """Check that a text is one line without control characters, so that it is safe to print.

    Args:
        text: from a file.

    Returns:
        The same text.

    Raises:
        ValueError: the text has control characters, tabs or line ends.
    """
    if has_control(text) or any(c in text for c in "\t\n\r"):
        raise ValueError("it has control characters; write one line of text")
    return text


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file (see `read_bytes` and `parse_json`)."""
    return parse_json(read_bytes(path, limit))


def parse_json(content: bytes) -> Any:
    """Parse JSON strictly: NaN, infinities, and numbers too large for a float are refused.

    Args:
        content: JSON in UTF-8.

    Returns:
        The value.

    Raises:
        ValueError: the content is not JSON, has a number that is not finite, or is nested too deeply.
    """
    try:
        return _JSON.decode(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("a number is not finite")
    return number


_JSON = json.JSONDecoder(parse_constant=_not_json, parse_float=_finite)
