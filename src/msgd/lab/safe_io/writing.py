"""Files replaced in one step, and never written where a link leads."""

from __future__ import annotations

import os
from pathlib import Path

from msgd.lab.errors import UserError


def check_inside(folder: Path, out: Path) -> None:
    """Make sure that what is written to a folder stays in that of its experiment.

    Args:
        folder: in `out`, which may itself be behind a link; it need not be there yet.
        out: the experiment's folder.

    Raises:
        UserError: there is a link on the way from one to the other.
    """
    while folder != out and folder != folder.parent:
        if folder.is_symlink():
            raise UserError(f"{folder} is a link, and msgd writes to no place outside of {out}: delete it")
        folder = folder.parent


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: after a kill it holds either the old content or the new.

    Args:
        path: the file.
        content: all of it.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # it may be a link, which would be followed
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
