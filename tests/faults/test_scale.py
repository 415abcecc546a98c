"""A folder of thousands of finished runs: `msgd compare` and `msgd report` take seconds, and little memory."""

import json
import os
import resource
import subprocess
import sys
import tomllib

import pytest
import tomli_w

from faults.checked import FULL
from faults.folders import RECIPE, finished

METHODS, SEEDS = (50, 100) if FULL else (20, 15)
SECONDS = 20 if FULL else 12  #: of the processor, so that a busy machine is no fault; most of the 12 is imports
GIGABYTE = 2**30
LAWS = ("mini-batch", "cov", "fisher", "bernoulli", "poisson")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    table = tomllib.loads(RECIPE) | {"steps": 3000, "eval_every": 100, "seeds": SEEDS, "snapshots": []}
    table["methods"] = {f"m{i}": {"law": LAWS[i % 5], "b": 10 + i if i % 5 == 0 else 10.0 + i} for i in range(METHODS)}
    out = tmp_path_factory.mktemp("scale") / "out"
    finished(out, tomli_w.dumps(table | {"reference": "m0"}), hidden=4)
    return out


@pytest.mark.parametrize("command", ["compare", "report"])
def test_thousands_of_runs(folder, command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Its own largest memory in KiB: ru_maxrss would be at least that of the tests, from whose process it is forked.
    code = (
        "import sys\nfrom pathlib import Path\nfrom msgd.__main__ import main\ntry: main()\n"
        "finally: print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = 1024 * int(done.stderr.splitlines()[-1])
    assert used < SECONDS, f"{used:.1f} s"
    assert memory < GIGABYTE, f"{memory / 2**20:.0f} MiB"
    assert f"m{METHODS - 1} " in done.stdout
    if command == "report":
        assert (folder / "report.html").stat().st_size < 10 * 2**20
        assert len(json.loads((folder / "results.json").read_text())["runs"]) == METHODS * SEEDS
