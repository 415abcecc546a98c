"""The lab's steps in several processes are those of one."""

import json
from pathlib import Path

import pytest

from helpers.torchrun import run_ranks

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of three ranks wrote."""
    folder, size = tmp_path_factory.mktemp("steps"), 3
    run_ranks(HERE / "steps.py", folder, size=size)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def test_parameters_are_those_of_one_process_and_the_same_bits_everywhere(results):
    rows = results[0]["rows"]
    assert len(rows) == 16
    for name, row in rows.items():
        assert len(row["distances"]) == len(results)
        assert len(set(row["distances"])) == 1, (name, row)
        assert row["distances"][0] < 1e-12, (name, row)


def test_the_controls_are_far_off(results):
    for name, row in results[0]["rows"].items():
        assert row["moved"] > 1e-3, (name, row)
        nothing_is_drawn = name in {"gradient descent", "full-batch-penalty"}
        assert (row["another seed"] == 0) if nothing_is_drawn else (row["another seed"] > 1e-6), (name, row)


def test_every_example_has_one_process_and_all_have_as_many(results):
    for number, parts in zip((0, 1, 7, 8), zip(*(rank["parts"] for rank in results), strict=True), strict=True):
        assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
        assert parts[-1][1] == number
        lengths = {stop - start for start, stop in parts}
        assert max(lengths) - min(lengths) <= 1
