"""Accelerate: whatever the accumulation, the steps are those of the plain loop; they resume, and errors are clear."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from helpers.one_draw import (
    LAW,
    LOGICAL,
    SEED,
    SPLITS,
    N,
    data,
    logical_batches,
    losses_of,
    network,
    optimizer_of,
    parameters,
    plain_loop,
    same,
)
from msgd.integrations.accelerate import AcceleratedReweighter
from msgd.noise import Cov


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*data(), strict=True))


class Loop:
    """The user's script."""

    def __init__(self, accumulated, micro, *, dataset=None, scaler=None, **options):
        plugin = GradientAccumulationPlugin(num_steps=accumulated)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_plugin=plugin)
        self.accelerator.scaler = scaler
        loader = DataLoader(dataset or TensorDataset(*data(), torch.arange(N)), batch_size=micro)
        model = network()
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer_of(model), loader)
        if scaler is not None:  # what mixed_precision="fp16" sets up on a GPU
            self.accelerator.native_amp, self.accelerator.state._mixed_precision = True, "fp16"
        self.reweight = AcceleratedReweighter(self.accelerator, LAW, seed=SEED, **options)
        self.path = [parameters(self.model)]

    def epoch(self, *, loader=None, stop=None, clip=None, c=None, logical=LOGICAL):
        for number, (x, y, *index) in enumerate(loader or self.loader):
            if number == stop:
                break
            with self.accelerator.accumulate(self.model):
                losses = losses_of(self.model(x), y)
                weights = {}
                if c is not None:
                    start = int(index[0][0]) // logical * logical
                    weights = {"sample_weight": c[index[0]], "total": c[start : start + logical].sum()}
                self.accelerator.backward(self.reweight(losses, **weights))
                if clip and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.path.append(parameters(self.model))
        return self

    def steps(self):
        return torch.stack(self.path)


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_steps_are_those_of_the_plain_loop(accumulated, micro):
    loop = Loop(accumulated, micro).epoch().epoch()
    same(loop.steps(), plain_loop(logical_batches(2)))
    assert loop.reweight.step == 8


def test_draws_of_other_sizes_and_laws_are_far_away():
    """The control: what the tests would miss if the plain loops hardly differed."""
    truth = plain_loop(logical_batches())
    for other in (plain_loop(logical_batches(logical=4))[::2], plain_loop(logical_batches(), law=Cov(2))[:4]):
        assert (other[1] - truth[1]).abs().max() > 0.001


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_a_scaler_and_own_weights(accumulated, micro):
    c = torch.rand(N, generator=torch.Generator().manual_seed(2)).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    loop = Loop(accumulated, micro, scaler=scaler).epoch(clip=0.1, c=c)
    same(loop.steps(), plain_loop(logical_batches(), c=c, clip=0.1))
    unclipped = plain_loop(logical_batches(), c=c)
    assert (unclipped[-1] - loop.path[-1]).abs().max() > 0.01


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
@pytest.mark.parametrize("steps", [2, 4])
def test_stop_and_resume(tmp_path, accumulated, micro, steps):
    first = Loop(accumulated, micro).epoch(stop=steps * accumulated)
    first.accelerator.save_state(tmp_path)
    second = Loop(accumulated, micro)
    second.accelerator.load_state(tmp_path)
    if steps < 4:  # within the epoch: the micro-batches of two steps are skipped
        second.epoch(loader=second.accelerator.skip_first_batches(second.loader, steps * accumulated))
    second.epoch()
    straight = Loop(accumulated, micro).epoch().epoch()
    assert torch.equal(torch.stack(second.path[1:]), straight.steps()[1 + steps :])


def test_another_noise_is_refused():
    loop = Loop(1, 8)
    with pytest.raises(ValueError, match="of seed 7, and this AcceleratedReweighter has 8"):
        AcceleratedReweighter(loop.accelerator, LAW, seed=8).load_state_dict(loop.reweight.state_dict())


def test_a_pass_that_is_left_early():
    """The next pass begins at its first micro-batch, and its last logical batch is the short one."""
    loop = Loop(2, 4).epoch(stop=4).epoch()
    batches = logical_batches()
    same(loop.steps(), plain_loop(batches[:2] + batches))


def test_evaluation_is_the_plain_mean_and_does_not_advance():
    loop = Loop(2, 4).epoch()
    with torch.no_grad():
        losses = losses_of(loop.model(data()[0]), data()[1])
        torch.testing.assert_close(loop.reweight(losses), losses.mean())
        gathered = loop.accelerator.gather_for_metrics(losses)
    assert len(gathered) == N
    assert loop.reweight.step == 4


def test_a_loader_that_cannot_tell():
    with pytest.raises(ValueError, match=r"cannot tell how many examples a step will have.*logical_batch="):
        Loop(2, 4, dataset=Stream()).epoch()
    same(Loop(1, 8, dataset=Stream()).epoch().steps(), plain_loop(logical_batches()))
    same(Loop(2, 4, dataset=Stream(), logical_batch=8).epoch().steps(), plain_loop(logical_batches()))
    told = Loop(4, 2, dataset=Stream(), logical_batch=8)
    with pytest.raises(ValueError, match="optimizer step comes after 3 of 8 examples"):
        told.epoch()  # of the last logical batch there are two micro-batches, and the second is not foreseen
    same(told.steps(), plain_loop(logical_batches()[:3]))
    with pytest.raises(ValueError, match="all 4 examples came, and the optimizer step comes later"):
        Loop(2, 4, dataset=Stream(), logical_batch=4).epoch()
