"""Data parallel: any number of processes, any number of micro-batches, one draw."""

import json
from pathlib import Path

import pytest
import torch

from helpers.torchrun import run_ranks
from msgd import Reweighter
from msgd.noise import Fisher
from msgd.reweighting.ranks import Ranks

WORKER = Path(__file__).with_name("worker.py")


EVERY_LAW = [pytest.param((size, 5), marks=pytest.mark.slow) for size in (1, 3)]


@pytest.fixture(scope="module", params=[(1, 2), (2, 5), (3, 2), *EVERY_LAW], ids=str)
def results(request, tmp_path_factory):
    """What each of so many ranks wrote, of so many laws."""
    folder, (size, laws) = tmp_path_factory.mktemp("ranks"), request.param
    run_ranks(WORKER, folder, laws, size=size)
    return [{"laws": laws} | json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def test_gradients_and_parameters_are_those_of_one_process(results):
    for rank in results:
        assert len(rank["equality"]) == rank["laws"] * (10 + 6)
        for row in rank["equality"]:
            allowed = 1e-12 if row["dtype"] == "torch.float64" else 1e-5
            assert row["gradient"] < allowed, row
            assert row["parameters"] < allowed, row


def test_ranks_that_do_not_share_a_draw_are_far_from_it(results):
    for rank in results[: len(results) if len(results) > 1 else 0]:
        assert rank["each_for_itself"] > 0.05


def test_ranks_that_differ_are_refused_all_of_them(results):
    for rank in results[: len(results) if len(results) > 1 else 0]:
        for key in ("seed", "law", "logical_batch", "layout", "step"):
            assert f"the ranks differ in {key} (" in rank["refused"][key]
            assert "use the same value on every rank" in rank["refused"][key]
        assert "pass it on all ranks or on none" in rank["refused"]["sample_weight"]
    alone = [Reweighter(Fisher(5), seed=seed)(torch.ones(4)).item() for seed in range(len(results))]
    if len(results) > 1:
        assert [rank["refused"]["alone"] for rank in results] == alone


def test_own_weights_are_summed_over_all_ranks(results):
    for rank in results:
        assert rank["totals"]["found"] == pytest.approx(rank["totals"]["truth"], rel=1e-12)
    assert results[0]["totals"]["evaluated"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("counts", [[3], [2, 2], [3, 2, 2], [1, 4, 2], [5, 1, 1, 3]])
def test_every_position_is_dealt_once(counts):
    for layout in ("strided", "blocked"):
        dealt = [Ranks(rank, len(counts), layout).positions(counts) for rank in range(len(counts))]
        assert [len(positions) for positions in dealt] == counts
        assert sorted(torch.cat(dealt).tolist()) == list(range(sum(counts)))
        assert all(torch.equal(positions, positions.sort().values) for positions in dealt)


def test_a_strided_deal_is_that_of_distributed_sampler():
    sampler = torch.utils.data.DistributedSampler
    for size, n in ((2, 8), (3, 9), (4, 8)):
        for rank in range(size):
            theirs = list(sampler(range(n), num_replicas=size, rank=rank, shuffle=False))
            assert Ranks(rank, size).positions([n // size] * size).tolist() == theirs


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match='"strided" or "blocked"'):
        Reweighter(Fisher(5), seed=0, layout="diagonal")
