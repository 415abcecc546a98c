"""TensorBoard's event file of a run, ``tensorboard/`` in its folder: a copy of ``metrics.jsonl``, under the same names.

TensorBoard's names have no spaces, so an underscore stands for each. msgd never reads the file. A process that
continues a run rewrites the file from the metrics and then adds to it. The file therefore has every step exactly once,
however often the run was stopped, including steps that were trained without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.metrics import Record
from msgd.lab.safe_io.writing import check_inside


def check_installed() -> None:
    """Check that the extra is installed, before anything is trained.

    Raises:
        UserError: tensorboard is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"--log tensorboard: {error.name} is not installed: pip install tensorboard") from None


@contextmanager
def event_file(folder: Path, records: list[Record]) -> Iterator[Callable[[Record], None]]:
    """Rewrite a run's event file and keep it open.

    Args:
        folder: the run's folder, locked by this process.
        records: the evaluations so far; a value of None was not finite.

    Yields:
        A function that adds a further evaluation and flushes it to disk.

    Raises:
        UserError: tensorboard is not installed on this worker of a cluster.
    """
    check_installed()
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "tensorboard"
    check_inside(place, folder)
    for old in place.glob("events.out.tfevents.*"):
        old.unlink()
    # purge_step=0 makes an open TensorBoard discard what it read from the old file.
    with SummaryWriter(str(place), purge_step=0) as writer:

        def add(record: Record) -> None:
            for name, value in record.items():
                if name != "step":
                    finite = value is not None and math.isfinite(value)
                    writer.add_scalar(name.replace(" ", "_"), value if finite else math.nan, record["step"])
            writer.flush()

        for record in records:
            add(record)
        yield add


def write_events(folder: Path, records: list[Record]) -> None:
    """Write the event file of a finished run."""
    with event_file(folder, records):
        pass
