"""What the faults are injected into, and how they are counted.

`MSGD_FAULTS=full` (make test-faults) injects many more of each, and writes what came of them to build/faults.json.
"""

import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.commands import msgd
from helpers.outcomes import outcome
from helpers.small import SMALL

FULL = os.environ.get("MSGD_FAULTS") == "full"
FIGURES = Path(__file__).parents[2] / "build" / "faults.json"

#: seeds of two methods, steps, and how often a run is evaluated and saved
SEEDS, STEPS, EVERY = (2, 3000, 500) if FULL else (1, 1500, 200)
RECIPE = SMALL.replace("seeds = 2", f"seeds = {SEEDS}").replace("steps = 60", f"steps = {STEPS}")
RECIPE = RECIPE.replace("eval_every = 10", f"eval_every = {EVERY}")
RECIPE = RECIPE.replace("checkpoint_every = 20", f"checkpoint_every = {EVERY}")


@pytest.fixture(scope="session")
def full():
    return FULL


@pytest.fixture(scope="session")
def inject():
    """Counts faults: ``with inject("kill -9 of a worker"):`` around one and all that must hold after it."""
    injected, survived = Counter(), Counter()

    @contextmanager
    def one(fault):
        injected[fault] += 1
        yield
        survived[fault] += 1

    yield one
    if FULL:
        FIGURES.parent.mkdir(exist_ok=True)
        before = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        now = {fault: {"injected": injected[fault], "survived": survived[fault]} for fault in injected}
        FIGURES.write_text(json.dumps(before | now, indent=2) + "\n")


@pytest.fixture(scope="session")
def command(tmp_path_factory, fashion_mnist):
    """The arguments of the command that every fault meets, less its folder.

    In the short form it trains in one process, which starts sooner, where a test does not ask for workers.
    """
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return ["run", path, "--methods", "sgd,bernoulli", "--data-dir", fashion_mnist, "--jobs", 2 if FULL else 1]


@pytest.fixture(scope="session")
def whole(command, tmp_path_factory):
    """The outcome where nothing happens."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = msgd(*command, "--jobs", 2, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    return outcome(out)


@pytest.fixture
def continues(command, whole):
    """Give the command again without a fault: nothing is lost, nothing is doubled."""

    def check(out):
        done = msgd(*command, "--out", out)
        assert (done.returncode, done.stderr) == (0, "")
        assert outcome(out) == whole

    return check
