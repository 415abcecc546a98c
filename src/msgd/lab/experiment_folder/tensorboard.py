"""TensorBoard's event file of a run, ``tensorboard/`` in its folder: a copy of ``metrics.jsonl``, under the same names.

It is never read. Whoever continues a run writes it anew from the metrics and then adds to it, so that it has every step
once, however often the run was stopped, and also the steps that were trained without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.metrics import METRICS, Record
from msgd.lab.safe_io.writing import check_inside


def check_installed() -> None:
    """Check that the extra is there, before anything is trained.

    Raises:
        UserError: it is not.
    """
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"--log tensorboard: {error.name} is not installed: pip install 'msgd[tensorboard]'") from None


@contextmanager
def event_file(folder: Path, records: list[Record]) -> Iterator[Callable[[Record], None]]:
    """Write a run's event file anew.

    Args:
        folder: of the run, held by this process.
        records: the evaluations so far; a loss of None was not finite.

    Yields:
        What adds a further evaluation, which is then on disk for those who watch.

    Raises:
        UserError: tensorboard is not installed here, on the worker of a cluster.
    """
    check_installed()
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "tensorboard"
    check_inside(place, folder)
    for old in place.glob("events.out.tfevents.*"):
        old.unlink()
    # Step 0 is where this file starts: a TensorBoard that is open forgets what it read in the old one.
    with SummaryWriter(str(place), purge_step=0) as writer:

        def add(record: Record) -> None:
            for name in METRICS:
                value = record[name]
                finite = value is not None and math.isfinite(value)
                writer.add_scalar(name, value if finite else math.nan, record["step"])
            writer.flush()

        for record in records:
            add(record)
        yield add


def write_events(folder: Path, records: list[Record]) -> None:
    """Write the event file of a run that is finished."""
    with event_file(folder, records):
        pass
