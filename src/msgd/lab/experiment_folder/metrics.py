"""The evaluations of a run: `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.bounded import (
    check_regular,
    parse_json,
    plain_line,
    raise_unreadable,
)
from msgd.lab.safe_io.writing import write_atomically

ENDPOINT = 10  #: the endpoint of a run is the mean over its last ten evaluations

# Bounds on what is read, see `msgd.lab.safe_io.bounded`.
LARGEST_LOSS = 1e100  #: far beyond float32, in which networks compute; means of such losses are finite
NUMBERS = 100  #: largest number of metrics in an evaluation
LONGEST_KEY = 46  #: ``train_`` and the longest name of a score
RECORD_BYTES = 2**15  #: upper bound on the length of a line: that many metrics, with names of up to 4 bytes a character
LOSSES = ("test_loss", "train_loss")  #: the metrics that every evaluation has
Record = dict[str, Any]  #: ``step``, and metric → value; None for a value that was not finite


def append_record(folder: Path, record: Record) -> None:
    """Add an evaluation to the metrics, so that it survives a kill of the process.

    A value that is not finite is written as null, because JSON has no NaN; so is one that `read_records` would refuse.
    """
    safe = {key: value if key == "step" else _finite(value) for key, value in record.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(_line(safe))


def _finite(value: float | None) -> float | None:
    return None if value is None or not abs(value) < LARGEST_LOSS else float(value)


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


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
    records: list[Record] = []
    try:
        check_regular(path)
        with path.open("rb") as file:
            while len(records) < len(expected) and (line := file.readline(RECORD_BYTES)):
                record = parse_json(line)
                if not _is_record(record, expected[len(records)]):
                    break  # nothing behind a damaged line is kept in memory
                records.append(record)
    except (OSError, ValueError) as error:
        raise_unreadable(error)
        raise UserError(f"{path} {damaged} ({error})") from error
    if len(records) < len(expected):
        place = f"line {len(records) + 1} is not the evaluation at step {expected[len(records)]}"
        raise UserError(f"{path} {damaged} ({place})")
    return records


def _is_record(record: Any, step: int) -> bool:
    if not (isinstance(record, dict) and record.get("step") == step and len(record) <= NUMBERS + 1):
        return False
    return all(key in record for key in LOSSES) and all(
        key == "step" or (_is_key(key) and _is_value(key, value)) for key, value in record.items()
    )


@lru_cache(maxsize=1000)  # every evaluation of an experiment has the same few keys
def _is_key(key: str) -> bool:
    try:
        return len(plain_line(key)) <= LONGEST_KEY
    except ValueError:
        return False


def _is_value(key: str, value: Any) -> bool:
    if key in ("test_accuracy", "train_accuracy"):
        return isinstance(value, float) and 0 <= value <= 1
    return value is None or (isinstance(value, float) and abs(value) < LARGEST_LOSS)


def keep_records(folder: Path, records: list[Record]) -> None:
    """Truncate the metrics to these records."""
    write_atomically(folder / "metrics.jsonl", "".join(map(_line, records)).encode())


def endpoint_of(records: list[Record]) -> dict[str, float]:
    """The endpoint of a run that did not diverge: each metric's mean over the last evaluations, without step 0.

    Args:
        records: the evaluations.

    Returns:
        Metric → mean; a metric that one of these evaluations lacks, or that was not finite in one, is left out.
    """
    last = [record for record in records if record["step"] > 0][-ENDPOINT:]
    columns = {key: [record.get(key) for record in last] for key in last[-1] if key != "step"}
    finite = {key: [value for value in column if value is not None] for key, column in columns.items()}
    return {key: math.fsum(values) / len(last) for key, values in finite.items() if len(values) == len(last)}
