"""Accelerate: whatever the accumulation, the steps are those of the plain loop; they resume, and errors are clear."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.nn import functional as F
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
from helpers.tiny_language import language_model, language_optimizer, language_plainly, sentences
from msgd.integrations.accelerate import AcceleratedReweighter
from msgd.noise import Cov, FullBatch


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*data(), strict=True))


class Loop:
    """The user's script, with weights by the way `by`: "outputs", "attach", "losses" or "nothing"."""

    def __init__(self, accumulated, micro, *, by="outputs", dataset=None, scaler=None, law=LAW, dtype=None, **options):
        plugin = GradientAccumulationPlugin(num_steps=accumulated)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_plugin=plugin)
        self.accelerator.scaler = scaler
        loader = DataLoader(dataset or TensorDataset(*data(), torch.arange(N)), batch_size=micro)
        self.by, self.dtype, model = by, dtype or torch.float64, network().to(dtype)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer_of(model), loader)
        if scaler is not None:  # what mixed_precision="fp16" sets up on a GPU
            self.accelerator.native_amp, self.accelerator.state._mixed_precision = True, "fp16"
        self.reweight = AcceleratedReweighter(self.accelerator, law, seed=SEED, **options)
        if by == "attach":
            self.reweight.attach(self.model)
        self.path = [parameters(self.model)]

    def loss(self, x, y, index, c, start):
        """The line that differs from one way to another; c: class weights, or own weights of the examples."""
        outputs = self.model(x.to(self.dtype))
        if self.by == "losses":
            more = {} if c is None else {"sample_weight": c[index], "total": c[start : start + LOGICAL].sum()}
            return self.reweight(losses_of(outputs, y), **more)
        return F.cross_entropy(self.reweight.outputs(outputs) if self.by == "outputs" else outputs, y, weight=c)

    def epoch(self, *, loader=None, stop=None, clip=None, c=None):
        for number, (x, y, *index) in enumerate(loader or self.loader):
            if number == stop:
                break
            with self.accelerator.accumulate(self.model):
                start = int(index[0][0]) // LOGICAL * LOGICAL if index else 0
                self.accelerator.backward(self.loss(x, y, *(index or [None]), c, start))
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
@pytest.mark.parametrize("by", ["outputs", "attach"])
def test_steps_are_those_of_the_plain_loop(accumulated, micro, by):
    """With the means and divisions of Accelerate, also in the last logical batch, of 3 examples."""
    loop = Loop(accumulated, micro, by=by).epoch().epoch()
    same(loop.steps(), plain_loop(logical_batches(2), split=(accumulated, micro)))
    assert loop.reweight.step == 8


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_steps_with_losses_are_those_of_whole_logical_batches(accumulated, micro):
    loop = Loop(accumulated, micro, by="losses").epoch().epoch()
    same(loop.steps(), plain_loop(logical_batches(2)))
    assert loop.reweight.step == 8


@pytest.mark.parametrize("split", [(1, 4), (2, 2), (4, 1)])
def test_a_language_model_that_computes_its_loss_itself(split):
    accelerator, model = Accelerator(cpu=True, gradient_accumulation_steps=split[0]), language_model()
    path, loader = [parameters(model)], DataLoader(sentences(), batch_size=split[1])
    model, optimizer, loader = accelerator.prepare(model, language_optimizer(model), loader)
    AcceleratedReweighter(accelerator, LAW, seed=SEED).attach(model)
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            path.append(parameters(model))
    same(torch.stack(path), language_plainly(split), atol=1e-6)


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_are_accelerate_itself(accumulated, micro, dtype):
    plain = Loop(accumulated, micro, by="nothing", dtype=dtype).epoch().epoch().steps()
    for by in ("outputs", "attach"):
        assert torch.equal(Loop(accumulated, micro, by=by, law=FullBatch(), dtype=dtype).epoch().epoch().steps(), plain)
    assert not torch.equal(Loop(accumulated, micro, dtype=dtype).epoch().epoch().steps(), plain)


def test_draws_of_other_sizes_laws_and_scales_are_far_away():
    """The control: what the tests would miss if the plain loops hardly differed."""
    truth = plain_loop(logical_batches())
    for other in (plain_loop(logical_batches(logical=4))[::2], plain_loop(logical_batches(), law=Cov(2))[:4]):
        assert (other[1] - truth[1]).abs().max() > 0.001
    assert (plain_loop(logical_batches(), split=(4, 2))[-1] - truth[-1]).abs().max() > 0.001


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_a_scaler_and_class_weights(accumulated, micro):
    c = torch.tensor([0.2, 1.0, 3.0]).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    loop = Loop(accumulated, micro, scaler=scaler).epoch(clip=0.1, c=c)
    of_examples, split = c[data()[1]], (accumulated, micro)
    same(loop.steps(), plain_loop(logical_batches(), c=of_examples, clip=0.1, split=split))
    unclipped = plain_loop(logical_batches(), c=of_examples, split=split)
    assert (unclipped[-1] - loop.path[-1]).abs().max() > 0.01


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_a_scaler_and_own_weights_with_losses(accumulated, micro):
    c = torch.rand(N, generator=torch.Generator().manual_seed(2)).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    loop = Loop(accumulated, micro, by="losses", scaler=scaler).epoch(clip=0.1, c=c)
    same(loop.steps(), plain_loop(logical_batches(), c=c, clip=0.1))


def test_a_step_that_a_scaler_skips():
    """No warning that the gradient was not used; the next step has the next draw."""
    loop = Loop(1, 8, scaler=torch.amp.GradScaler("cpu", init_scale=float("inf")))
    loop.epoch(stop=1)
    assert torch.equal(loop.path[1], loop.path[0])
    loop.accelerator.scaler.update(1024.0)
    loop.epoch()
    assert loop.reweight.step == 5


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
    same(loop.steps(), plain_loop(batches[:2] + batches, split=(2, 4)))


@pytest.mark.parametrize("by", ["outputs", "attach", "losses"])
def test_evaluation_does_not_change_or_advance(by):
    loop = Loop(2, 4, by=by).epoch()
    with torch.no_grad():
        losses = losses_of(loop.model(data()[0]), data()[1])
        torch.testing.assert_close(loop.reweight(losses), losses.mean())
        assert loop.reweight.outputs(losses) is losses
        gathered = loop.accelerator.gather_for_metrics(losses)
    assert len(gathered) == N
    assert loop.reweight.step == 4


def test_a_check_of_the_gradient_asks_for_no_logical_batch():
    loop = Loop(2, 4).epoch(stop=3)
    batch = tuple(part[:4] for part in data())
    found = loop.reweight.check(loop.model, batch, lambda m, b: F.cross_entropy(loop.reweight.outputs(m(b[0])), b[1]))
    assert found.passed
    assert (loop.reweight.step, loop.reweight.offset) == (1, 4)


def test_a_given_step_asks_for_no_logical_batch():
    class Twice(Loop):
        def loss(self, x, *more):
            y = torch.zeros(len(x), requires_grad=True)
            self.reweight.outputs(y, step=3, offset=0).sum().backward()
            self.found.append((self.reweight.logical_batch, y.grad))
            assert self.reweight.weights(len(x), step=3, offset=0).n == self.reweight.logical_batch
            return super().loss(x, *more)

    loop = Twice(2, 4)
    loss = loop.reweight(torch.ones(8, requires_grad=True), step=3)  # the weights of this law have mean 1
    torch.testing.assert_close(loss, torch.tensor(2.0))  # which Accelerate divides by 2
    loop.found, loop.reweight.logical_batch = [], 8
    same(loop.epoch().steps(), plain_loop(logical_batches(), split=(2, 4)))
    for n, w in loop.found[:-1]:
        assert torch.equal(w, LAW.draw(n, seed=SEED, step=3).dense()[:4])


def test_watch():
    """A step without weighted examples is an error, if the optimizer is watched."""
    loop, plain = Loop(2, 4), Loop(2, 4, by="nothing")
    loop.reweight.watch(loop.optimizer)
    same(loop.epoch().steps(), plain_loop(logical_batches(), split=(2, 4)))
    plain.reweight.watch(plain.optimizer)
    with pytest.raises(ValueError, match="an optimizer step without weighted examples"):
        plain.epoch()


def test_a_loader_that_cannot_tell():
    with pytest.raises(ValueError, match=r"cannot tell how many examples a step will have.*logical_batch="):
        Loop(2, 4, dataset=Stream()).epoch()
    same(Loop(1, 8, dataset=Stream()).epoch().steps(), plain_loop(logical_batches()))
    told = Loop(2, 4, dataset=Stream(), logical_batch=8).epoch()
    same(told.steps(), plain_loop(logical_batches(), split=(2, 4)))


@pytest.mark.parametrize("by", ["outputs", "attach", "losses"])
def test_a_step_that_does_not_come_with_the_end_of_the_logical_batch(by):
    told = Loop(4, 2, by=by, dataset=Stream(), logical_batch=8)
    with pytest.raises(ValueError, match="optimizer step comes after 3 of 8 examples"):
        told.epoch()  # of the last logical batch there are two micro-batches, and the second is not foreseen
    same(told.steps(), plain_loop(logical_batches()[:3]))
    with pytest.raises(ValueError, match="all 4 examples came, and the optimizer step comes later"):
        Loop(2, 4, by=by, dataset=Stream(), logical_batch=4).epoch()
