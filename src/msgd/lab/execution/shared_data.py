"""Data handed to jobs: in memory on this machine, in files to a cluster."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from msgd.lab.data.dataset import Data, read_data, write_data
from msgd.lab.execution.workers import Workers
from msgd.lab.safe_io.writing import check_inside


@contextmanager
def share_data(loaded: Mapping[int, Data], workers: Workers, out: Path) -> Iterator[Mapping[int, Data | Path]]:
    """Hand data to jobs: as they are in this machine, and by files in the shared folder to a cluster.

    A file is read once by each worker, and is there for one that comes later; what a scheduler holds would go through
    its memory, and what workers hold is lost with them.

    Args:
        loaded: data sets.
        workers: who will do the jobs.
        out: the experiment's folder.

    Yields:
        What `taken` takes, by the same keys.
    """
    if workers.client is None:
        yield loaded
        return
    folder = out.absolute() / ".data"
    check_inside(folder, out.absolute())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        paths: dict[int, Data | Path] = {}
        for key, data in loaded.items():
            paths[key] = path = folder / f"{uuid.uuid4().hex}.npz"
            write_data(data, path)
        yield paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch_data(data: Data | Path) -> Data:
    """What `lent` handed out."""
    return data if isinstance(data, Data) else _read_once(data)


_read_once = lru_cache(maxsize=2)(read_data)
