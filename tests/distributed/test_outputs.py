"""Mean losses of weighted outputs in two processes are those of one, however they are wrapped and accumulated."""

import json
from pathlib import Path

import pytest

from helpers.torchrun import run_ranks

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of two ranks wrote."""
    folder, size = tmp_path_factory.mktemp("outputs"), 2
    run_ranks(HERE / "outputs.py", folder, size=size)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def test_gradients_are_those_of_one_process(results):
    for rank in results:
        assert len(rank["equality"]) == 2 * 2 * 3 * 2
        for name, distances in rank["equality"].items():
            assert max(distances) < 1e-12, (name, distances)
        assert min(rank["alone"]) > 0.05  # the control: ranks that do not share a draw


def test_ranks_with_different_numbers_of_examples(results):
    assert max(rank["unequal"] for rank in results) < 1e-12


def test_equal_ranks_exchange_nothing(results):
    for rank in results:
        assert rank["collectives"] == [3, 0, 0]


def test_what_would_hang_or_be_wrong_is_refused(results):
    for rank in results:
        refused = rank["refused"]
        assert "total differs between the ranks (4.0, 5.0): pass the sum of c_i" in refused["total"]
        assert "only some ranks passed sample_weight or total" in refused["some totals"]
        assert refused["same total"] == ""
        assert "use a DistributedSampler instead of Join" in refused["join"]
        assert "pass group=torch.distributed.group.WORLD if the Join has ended" in refused["join"]
        assert refused["after join"] == ""
        assert "the ranks differ in equal (True, False)" in refused["equal"]


def test_processes_without_a_module_in_ddp_are_told_once(results):
    for rank in results:
        assert len(rank["warned"]["world"]) == 1
        assert "if each process trains a model of its own, pass group=None" in rank["warned"]["world"][0]
        assert rank["warned"]["none"] == rank["warned"]["own"] == []


def test_check_and_watch(results):
    for rank in results:
        passed, distance = rank["checked"]
        assert passed
        assert distance < 1e-12
        right, wrong = rank["watched"]
        assert right == ""
        assert "after 2 logical batches, 64 examples together" in wrong
