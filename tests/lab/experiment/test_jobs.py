"""The progress of jobs, read from folders that somebody else may have written."""

import json

import pytest

from helpers.commands import python
from msgd.lab.experiment.jobs import last_record


def test_the_last_record(tmp_path):
    assert last_record(tmp_path) == {"step": 0, "test_accuracy": 0.0}
    lines = [json.dumps({"step": step, "test_accuracy": step / 100}) for step in range(0, 90, 10)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert last_record(tmp_path) == {"step": 80, "test_accuracy": 0.8}


@pytest.mark.parametrize("harm", ["os.mkfifo(path)", "path.symlink_to('/dev/zero')"], ids=["pipe", "device"])
def test_metrics_that_are_no_file_are_not_read(tmp_path, harm):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom msgd.lab.experiment.jobs import last_record\n"
        f"folder = Path(sys.argv[1])\npath = folder / 'metrics.jsonl'\n{harm}\nprint(last_record(folder)['step'])"
    )
    done = python(code, tmp_path, timeout=30)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
