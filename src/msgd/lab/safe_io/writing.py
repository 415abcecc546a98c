"""Atomic writing of files, which never follows a link."""

from __future__ import annotations

import os
from pathlib import Path

from msgd.lab.errors import UserError


def check_inside(folder: Path, out: Path) -> None:
    """Check that no link leads from an experiment's folder to a place outside it.

    Args:
        folder: a path in `out`; it need not exist yet.
        out: the experiment's folder, which may itself be a link.

    Raises:
        UserError: a part of the path below `out` is a link.
    """
    while folder != out and folder != folder.parent:
        if folder.is_symlink():
            raise UserError(f"{folder} is a link, and msgd does not write outside {out}: delete the link")
        folder = folder.parent


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that after a kill it holds either the old content or the new.

    Args:
        path: the file.
        content: its new content.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # it may be a link, which open() would follow
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
