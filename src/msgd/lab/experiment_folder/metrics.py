"""The evaluations of a run: `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.bounded import (
    check_regular,
    parse_json,
    raise_unreadable,
)
from msgd.lab.safe_io.writing import write_atomically

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
ENDPOINT = 10  #: the endpoint of a run is the mean over its last ten evaluations

# Bounds on what is read, see `msgd.lab.safe_io.bounded`.
LARGEST_LOSS = 1e100  #: far beyond float32, in which networks compute; means of such losses are finite
RECORD_BYTES = 500  #: upper bound on the length of a line of the metrics; msgd writes less than 200 bytes
Record = dict[str, Any]


def append_record(folder: Path, record: Record) -> None:
    """Add an evaluation to the metrics, so that it survives a kill of the process.

    A loss that is not finite is written as null, because JSON has no NaN.
    """
    safe = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in record.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(safe) + "\n")


def read_records(run: Run, folder: Path, *, step: int) -> list[Record]:
    """Read the evaluations up to a step, without those that were written after it.

    Args:
        run: the run.
        folder: its folder.
        step: step of the last checkpoint.

    Returns:
        One record for each step of ``run.evaluations`` up to ``step``.

    Raises:
        UserError: an evaluation is missing or damaged.
    """
    path = folder / "metrics.jsonl"
    expected = [at for at in run.evaluations if at <= step]
    damaged = f"is damaged: delete {folder} to train this run again"
    try:
        check_regular(path)
        with path.open("rb") as file:
            lines = file.read(RECORD_BYTES * len(expected)).splitlines()[: len(expected)]
        records = [parse_json(line) for line in lines]
    except (OSError, ValueError) as error:
        raise_unreadable(error)
        raise UserError(f"{path} {damaged} ({error})") from error
    for number, at in enumerate(expected):
        if number >= len(records) or not _is_record(records[number], at):
            raise UserError(f"{path} {damaged} (line {number + 1} is not the evaluation at step {at})")
    return records


def _is_record(record: Any, step: int) -> bool:
    if not (isinstance(record, dict) and record.get("step") == step):
        return False
    for key in METRICS:
        value = record.get(key, "missing")
        if key.endswith("accuracy"):
            if not (isinstance(value, float) and 0 <= value <= 1):
                return False
        elif value is not None and not (isinstance(value, float) and abs(value) < LARGEST_LOSS):
            return False
    return True


def keep_records(folder: Path, records: list[Record]) -> None:
    """Truncate the metrics to these records."""
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())


def endpoint_of(records: list[Record]) -> dict[str, float]:
    """The endpoint of a run that did not diverge: each metric's mean over the last evaluations, without step 0."""
    last = [record for record in records if record["step"] > 0][-ENDPOINT:]
    return {key: math.fsum(record[key] for record in last) / len(last) for key in METRICS}
