"""The evaluations of a run, and its endpoint."""

import json

import numpy as np
import pytest

from faults.folders import RECIPE
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.metrics import (
    RECORD_BYTES,
    append_record,
    endpoint_of,
    keep_records,
    read_records,
)
from msgd.lab.plan.grid import planned_runs
from msgd.lab.recipes.load import parse_recipe

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")

RUN = planned_runs(parse_recipe(RECIPE, source="made"), n=1000, digests=["0"])[0]  # evaluated at 0, 10, 20 and 30
LOSSES = {"test_loss": 1.5, "train_loss": 1.25}


def test_the_endpoint_leaves_out_the_start():
    records = [{"step": s, **dict.fromkeys(METRICS, float(s))} for s in range(0, 130, 10)]
    assert endpoint_of(records)["test_accuracy"] == np.mean(range(30, 130, 10))
    assert endpoint_of(records[:3])["test_loss"] == 15


def test_the_endpoint_has_the_metrics_that_all_of_the_last_evaluations_have():
    records = [{"step": s, "test_loss": 1.0, "test_mae": 2.0, "test_f1": 3.0} for s in range(0, 130, 10)]
    for record in records[:3]:
        del record["test_mae"]  # an earlier version began the run
    assert endpoint_of(records) == {"test_loss": 1.0, "test_mae": 2.0, "test_f1": 3.0}
    del records[3]["test_mae"]  # the first of the last ten
    records[-2]["test_f1"] = None
    assert endpoint_of(records) == {"test_loss": 1.0}


def test_any_scores_are_kept_and_null_stands_for_what_is_not_finite(tmp_path):
    scores = {"test_r2 loss": -3.5, "train_größe": 2, "test_nan": float("nan"), "test_huge": 1e150}
    for step in RUN.evaluations:
        append_record(tmp_path, {"step": step} | LOSSES | scores)
    found = read_records(RUN, tmp_path, step=30)
    kept = {"test_r2 loss": -3.5, "train_größe": 2.0, "test_nan": None, "test_huge": None}
    assert found == [{"step": step} | LOSSES | kept for step in (0, 10, 20, 30)]
    keep_records(tmp_path, found[:2])
    assert read_records(RUN, tmp_path, step=10) == found[:2]


def test_the_longest_evaluation_fits_a_line(tmp_path):
    numbers = {f"train_{'😀' * 37}{i:03}": -1.2345678901234567e-99 for i in range(98)}
    record = {"step": 10**8} | LOSSES | numbers
    append_record(tmp_path, record)
    assert 18_000 < (tmp_path / "metrics.jsonl").stat().st_size < RECORD_BYTES
    records = [{"step": step} | LOSSES | numbers for step in RUN.evaluations]
    keep_records(tmp_path, records)
    assert read_records(RUN, tmp_path, step=30) == records


@pytest.mark.parametrize(
    "change",
    [
        {"test_mae": "1"},
        {"test_mae": 1},
        {"test_mae": True},
        {"test_mae": [1.0]},
        {"test_mae": 1e100},
        {"test_accuracy": 1.5},
        {"train_accuracy": None},
        {"test_a\x1b[2J": 1.0},
        {"x" * 47: 1.0},
        {f"test_{i}": 1.0 for i in range(99)},
        {"step": 20},
    ],
    ids=["text", "whole", "true", "list", "huge", "above 1", "no accuracy", "control", "long", "many", "step"],
)
def test_evaluations_that_are_none(tmp_path, change):
    records = [{"step": step} | LOSSES | {"test_mae": 2.0} for step in RUN.evaluations]
    keep_records(tmp_path, records)
    assert len(read_records(RUN, tmp_path, step=30)) == 4
    lines = [json.dumps(record) for record in [records[0], records[1] | change, *records[2:]]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"is damaged: delete .* \(line 2 is not the evaluation at step 10\)"):
        read_records(RUN, tmp_path, step=30)


@pytest.mark.parametrize("key", LOSSES)
def test_every_evaluation_has_the_losses(tmp_path, key):
    records = [{"step": step} | LOSSES for step in RUN.evaluations]
    del records[3][key]
    keep_records(tmp_path, records)
    with pytest.raises(UserError, match="line 4 is not the evaluation at step 30"):
        read_records(RUN, tmp_path, step=30)


def test_a_line_without_end_is_not_read(tmp_path):
    keep_records(tmp_path, [{"step": 0} | LOSSES])
    with (tmp_path / "metrics.jsonl").open("r+b") as file:
        file.truncate(2**40)  # a terabyte that takes no room
    with pytest.raises(UserError, match="is damaged"):
        read_records(RUN, tmp_path, step=30)
