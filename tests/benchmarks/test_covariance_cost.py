"""A network with ten million parameters: what the leading eigenvalues of C cost (minutes of work)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "covariance_cost.py"

pytestmark = pytest.mark.slow


def cost(**options):
    arguments = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run([sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_eigenvalues_are_those_of_the_dense_route():
    found = cost(n=64, chunk=32, k=4, gib=8)
    assert found["dense"]["n"] == 64
    assert found["lanczos"]["eigenvalues"] == pytest.approx(found["dense"]["eigenvalues"], rel=1e-4)
    assert found["dense"]["peak_mib"] > 10 * found["lanczos"]["peak_mib"]


def test_512_images_take_less_than_twice_the_memory_of_a_backward_pass():
    found = cost(n=512, chunk=256, k=10, gib=24, routes="lanczos")
    values = found["lanczos"]["eigenvalues"]
    assert len(values) == 10
    assert sorted(values, reverse=True) == values
    assert values[-1] > 0
    assert found["lanczos"]["peak_of_backward"] < 2
