"""Two processes under each framework take the steps of one, over the whole logical batch."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DistributedSampler

from helpers.one_draw import LAW, LOGICAL, N, data, logical_batches, network, plain_loop, same
from helpers.torchrun import run_ranks
from integrations.trainer_twin import relative
from msgd.noise import FullBatch

FLOAT32 = 1e-6
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each rank wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(WORKER, folder, size=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("by", ["outputs", "attach", "losses"])
def test_steps_of_accelerate_are_those_of_one_process(results, by):
    """Accelerate fills the last batches with the first example; in the last group it divides by 2 as well."""
    batches = [*logical_batches()[:3], torch.tensor([24, 25, 26, 0])]
    for paths in results:
        same(paths[f"accelerate {by}"], plain_loop(batches, split=None if by == "losses" else (2, 4)))
        assert torch.equal(paths["accelerate ones"], paths["accelerate nothing"])  # weights of 1


def test_steps_of_fabric_are_those_of_one_process(results):
    """The loader of Fabric keeps the order, and deals the examples to the ranks in turn."""
    for paths in results:
        same(paths["fabric"], plain_loop([*logical_batches()[:3], torch.tensor([24, 25, 26, 0])], split=(2, 4)))


def test_steps_of_lightning_are_those_of_one_process(results):
    """Lightning shuffles in DDP, and deals the examples to the ranks in turn."""
    dealt = [list(DistributedSampler(range(N), num_replicas=2, rank=rank, seed=0)) for rank in range(2)]
    order = torch.tensor(dealt).T.flatten()
    truth = plain_loop(order.split(LOGICAL), split=(2, 4))
    for paths in results:
        same(paths[f"lightning {LAW}"], truth)
        assert torch.equal(paths[f"lightning {FullBatch()}"], paths["lightning None"])  # weights of 1


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("name", ["rows", "packed", "trl"])
def test_trainers(results, name, average):
    """Each step has the gradient of the examples of both processes, each alone, times its weight."""
    for ranks in results:
        found, truth, plain, ones = ranks[f"{name} {average}"]
        assert relative(found, truth) < FLOAT32
        assert relative(found, plain) > 0.1  # the control
        assert torch.equal(ones, plain)
    assert torch.equal(results[0][f"{name} {average}"][0], results[1][f"{name} {average}"][0])


def test_evaluation_gathers_each_example_once(results):
    with torch.no_grad():
        torch.testing.assert_close(results[0]["evaluated"], network()(data()[0]).sum(1))
