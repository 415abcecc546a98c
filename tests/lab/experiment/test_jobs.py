"""The progress of jobs, read from folders that somebody else may have written."""

import json

import pytest

from faults.folders import finished
from helpers.commands import python
from msgd.lab.experiment.jobs import Job, _outcome, last_record
from msgd.lab.experiment_folder.scores import ACCURACY, Score


def test_the_last_record(tmp_path):
    assert last_record(tmp_path) == {"step": 0}
    lines = [json.dumps({"step": step, "test_accuracy": step / 100}) for step in range(0, 90, 10)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert last_record(tmp_path) == {"step": 80, "test_accuracy": 0.8}


def test_the_last_record_has_every_finite_number(tmp_path):
    long = {f"test_{'x' * 35}{i:03}": 1.5 for i in range(97)}
    record = {"step": 80, "test_loss": 1.0, "train_loss": None, "test_r2 loss": -0.5} | long
    (tmp_path / "metrics.jsonl").write_text((json.dumps(record) + "\n") * 3)
    assert last_record(tmp_path) == {key: value for key, value in record.items() if value is not None}


@pytest.mark.parametrize(
    "line", ["", "[1]", '{"step": 1', '{"test_loss": 1.0}', '{"step": "x"}', '{"step": 1e999}', "[" * 5000]
)
def test_a_last_line_that_is_no_evaluation(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line)
    assert last_record(tmp_path) == {"step": 0}


@pytest.mark.parametrize(
    ("score", "split", "said"),
    [
        (ACCURACY, "held-out", "held-out accuracy 71.2%"),
        (Score("r2 loss"), "test", "test r2 loss 0.513"),
        (Score("mae"), "test", "test mae not finite"),
    ],
)
def test_the_outcome_of_a_job(tmp_path, score, split, said):
    planned = finished(tmp_path / "out")
    folder = tmp_path / "out" / "sgd" / "seed-0"
    record = {"step": 30, "test_accuracy": 0.7123, "test_r2 loss": 0.51312, "test_mae": None}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert _outcome(Job(planned[0], folder, 0), split, score) == f"sgd, seed 0, lr 0.1: {said}"


@pytest.mark.parametrize("harm", ["os.mkfifo(path)", "path.symlink_to('/dev/zero')"], ids=["pipe", "device"])
def test_metrics_that_are_no_file_are_not_read(tmp_path, harm):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom msgd.lab.experiment.jobs import last_record\n"
        f"folder = Path(sys.argv[1])\npath = folder / 'metrics.jsonl'\n{harm}\nprint(last_record(folder)['step'])"
    )
    done = python(code, tmp_path, timeout=30)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
