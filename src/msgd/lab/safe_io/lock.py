"""A lock on a folder, held by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from msgd.lab.errors import UserError
from msgd.lab.safe_io.writing import check_inside


@contextmanager
def lock_folder(folder: Path, *, patience: float = 0) -> Iterator[None]:
    """Hold a folder for one process; the operating system lets go of it however the process ends.

    Args:
        folder: made where it does not exist.
        patience: seconds to wait for another process to let go.

    Yields:
        Nothing.

    Raises:
        UserError: another process holds it, or a file stands in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} cannot be a folder, there is a file in its place: give another --out") from None
    check_inside(folder / ".lock", folder)  # FileLock empties the file
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=patience)
    except Timeout:
        raise UserError(f"another msgd is at work in {folder}: wait for it, or give another --out") from None
    with lock:
        yield
