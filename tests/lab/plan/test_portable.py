"""Runs with code of one's own reach another process."""

import pickle
import subprocess
import sys

import pytest

from helpers.own_task import write_task
from helpers.training import make
from msgd.lab.errors import UserError
from msgd.lab.plan.portable import portable, received
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import load


def test_a_run_without_own_code_is_sent_as_it_is():
    run = make()
    assert portable(run) is run
    assert received(run) is run


def test_a_run_with_own_code_is_received_in_a_fresh_process(tmp_path):
    recipe = load(str(write_task(tmp_path)), trust=True)
    runs = [portable(run) for run in resolve(recipe, n=40, digests=["0"])]
    (tmp_path / "runs.pickle").write_bytes(pickle.dumps(runs))
    program = (
        "import pickle, sys\nfrom pathlib import Path\nfrom msgd.lab.plan.portable import received\n"
        "for sent in pickle.loads(Path(sys.argv[1]).read_bytes()):\n"
        "    run = received(sent)\n"
        "    print(run.method, run.lr_at(4), run.law, run.own.task.network()[0], len(run.own.task.data(1)[0][0]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "runs.pickle")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(printed) == 8
    assert printed[2].startswith("signs 0.05 Signs(b=8) Linear(in_features=3, out_features=8, bias=True) 40")
    assert float(printed[4].split()[1]) == pytest.approx(0.05 * (1 - 4 / 30))


def test_a_file_that_changed_on_its_way_is_refused(tmp_path):
    recipe = load(str(write_task(tmp_path)), trust=True)
    sent = portable(resolve(recipe, n=40, digests=["0"])[0])
    (tmp_path / "task.py").write_text((tmp_path / "task.py").read_text() + "\nX = 1\n")
    with pytest.raises(UserError, match=r"task\.py has changed since this command read it"):
        received(sent)
