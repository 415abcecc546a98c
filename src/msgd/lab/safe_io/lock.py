"""A lock on a folder, which one process at a time can hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from msgd.lab.errors import UserError
from msgd.lab.safe_io.writing import check_inside


@contextmanager
def lock_folder(folder: Path, *, patience: float = 0) -> Iterator[None]:
    """Lock a folder for this process; the operating system releases the lock however the process ends.

    Args:
        folder: the folder to lock; it is created if it does not exist.
        patience: seconds to wait for another process to release the lock.

    Yields:
        Nothing.

    Raises:
        UserError: another process holds the lock, or the path of the folder is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is a file, not a folder: give another folder with --out") from None
    check_inside(folder / ".lock", folder)  # FileLock truncates the file, so it must not be a link
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=patience)
    except Timeout:
        raise UserError(
            f"another msgd process is using {folder}: wait for it, or give another folder with --out"
        ) from None
    with lock:
        yield
