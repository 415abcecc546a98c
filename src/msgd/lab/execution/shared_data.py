"""Pass data sets to jobs: in memory on this machine, through files to a cluster."""

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
    """Pass data sets to jobs: as objects on this machine, through files in the shared folder to a cluster.

    Each worker reads a file once, and workers that join later can still read it. Data passed through the scheduler
    would use its memory, and data held by workers would be lost with them.

    Args:
        loaded: the data sets.
        workers: the workers that run the jobs.
        out: the experiment's folder.

    Yields:
        Arguments for `fetch_data`, by the same keys.
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
    """Get a data set from a value that `share_data` yielded."""
    return data if isinstance(data, Data) else _read_once(data)


_read_once = lru_cache(maxsize=2)(read_data)
