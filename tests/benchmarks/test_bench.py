"""The benchmark: its intervals against the binomial, its verdict against known ratios, and that it runs."""

import importlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.commands import script
from msgd import Reweighter
from msgd.noise import Fisher

FOLDER = Path(__file__).parents[2] / "benchmarks"


def module(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module(name)


timing = module("timing")


def coverage(n, below):
    """Probability that the median lies between the order statistics below + 1 and n − below, by counting."""
    return 1 - 2 * sum(math.comb(n, k) for k in range(below + 1)) / 2**n


@pytest.mark.parametrize("n", [6, 9, 10, 25, 40, 150])
def test_the_interval_is_the_narrowest_that_covers(n):
    low, high = timing.interval(range(n))
    assert high == n - 1 - low
    assert coverage(n, low) >= 0.95
    assert coverage(n, low + 1) < 0.95


def test_too_few_values_give_all_of_them():
    assert timing.interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_a_ratio_and_its_verdict():
    """Ratios of a known median: met above, not met below, and not met where the interval reaches across."""
    rng = np.random.default_rng(0)
    below = rng.lognormal(0, 0.3, 200)
    for truth, spread, expected in ((1.0, 0.005, True), (1.02, 0.005, False), (1.009, 0.1, False)):
        found = timing.ratio(truth * below * rng.lognormal(0, spread, 200), below)
        assert found["low"] <= truth * (1 + spread)
        assert found["high"] >= truth * (1 - spread)
        assert found["low"] <= found["quartile_3"]
        assert found["quartile_1"] <= found["ratio"] <= found["quartile_3"]
        assert timing.met(found, 1.01) is expected
    fast = timing.ratio(30 * below, below)
    assert timing.met(fast, 25, at_least=True)
    assert not timing.met(fast, 31, at_least=True)


def test_steps_are_taken_in_turn():
    taken = []
    times = timing.interleaved({"a": lambda: taken.append("a"), "b": lambda: taken.append("b")}, 4, warm_up=1)
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 4}
    assert "".join(taken) == "ab" + "baab" * 2


def bench(*arguments):
    return script(FOLDER / "bench.py", *arguments, env=os.environ)


def test_the_command_measures_and_keeps_what_it_has(tmp_path):
    (tmp_path / "results.json").write_text('{"sparse": [{"what": "of before"}]}')
    done = bench("--only", "draws", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "results.json").read_text())
    assert list(measured) == ["draws", "sparse"]
    rows = {row["what"]: row for row in measured["draws"]}
    for row in rows.values():
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["met"] == (row["high"] <= row["reach"])
        assert row["what"] in done.stdout
    sparse = rows["a draw of MiniBatch(256) of 10⁹"]
    assert [other["n"] for other in sparse["other_n"]] == [10**6, 10**12]
    for found in (sparse, *sparse["other_n"]):
        assert found["peak_kib"] < 100  # of n = 10⁹, 8 million
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert list(environment) == ["draws"]
    assert environment["draws"]["command"].endswith(f"--quick --out {tmp_path}")


def test_seeds_in_lockstep_take_the_steps_of_each_alone(tmp_path):
    """The row compares parameters after a step and fails where they differ; without a GPU its rows say why not."""
    done = bench("--only", "gpu,lockstep", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "results.json").read_text())
    assert measured["lockstep"][0]["ratio"] > 0
    if not torch.cuda.is_available():
        assert measured["gpu"][0]["not_measured"] == "torch sees no CUDA device here"


def test_weights_drawn_ahead_are_those_of_the_steps():
    gpu = module("gpu")
    ahead, reweight = gpu.Ahead("cpu"), Reweighter(Fisher(20), seed=0)
    for _ in range(gpu.AHEAD + 2):
        losses = torch.rand(30, generator=torch.Generator().manual_seed(0), requires_grad=True)
        torch.testing.assert_close(ahead(losses), reweight(losses))


def test_an_unknown_row_is_refused(tmp_path):
    done = bench("--only", "draws,bogus", "--out", tmp_path)
    assert done.returncode == 2
    assert "there is no bogus; there are draws" in done.stderr
    assert not list(tmp_path.iterdir())
