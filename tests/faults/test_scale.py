"""A folder of thousands of finished runs: `msgd compare` and `msgd report` take seconds, and little memory."""

import json
import tomllib

import pytest
import tomli_w

from faults.checked import FULL
from faults.folders import RECIPE, finished
from helpers.commands import python

METHODS, SEEDS = (50, 100) if FULL else (20, 15)
SECONDS = 17 if FULL else 9  #: of the processor, so that a busy machine is no fault; 0.7 is usual in the short form
GIGABYTE = 2**30
LAWS = ("mini-batch", "cov", "fisher", "bernoulli", "poisson")

#: runs the command, and says what it took: seconds of the processor, and the largest memory in KiB with all imports
MEASURED = """
import sys, time
from pathlib import Path
from msgd.__main__ import main
try:
    main()
finally:
    memory = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(time.process_time(), memory, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    table = tomllib.loads(RECIPE) | {"steps": 3000, "eval_every": 100, "seeds": SEEDS, "snapshots": []}
    table["methods"] = {f"m{i}": {"law": LAWS[i % 5], "b": 10 + i if i % 5 == 0 else 10.0 + i} for i in range(METHODS)}
    out = tmp_path_factory.mktemp("scale") / "out"
    finished(out, tomli_w.dumps(table | {"reference": "m0"}), hidden=4)
    return out


@pytest.mark.parametrize("command", ["compare", "report"])
def test_thousands_of_runs(folder, command):
    done = python(MEASURED, command, folder, timeout=600)
    assert done.returncode == 0, done.stderr
    used, kib = map(float, done.stderr.splitlines()[-1].split())
    memory = 1024 * kib
    assert used < SECONDS, f"{used:.1f} s"
    assert memory < GIGABYTE, f"{memory / 2**20:.0f} MiB"
    assert f"m{METHODS - 1} " in done.stdout
    if command == "report":
        assert (folder / "report.html").stat().st_size < 10 * 2**20
        assert len(json.loads((folder / "results.json").read_text())["runs"]) == METHODS * SEEDS
