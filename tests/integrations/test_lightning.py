"""Lightning: whatever the accumulation, the steps are those of the plain loop; they resume, and errors are clear."""

from contextlib import nullcontext

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins import MixedPrecision
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from helpers.one_draw import (
    LAW,
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
from msgd.integrations.lightning import ReweightCallback
from msgd.noise import FullBatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]


class Net(L.LightningModule):
    """The user's module, with nothing changed; c: class weights."""

    def __init__(self, output=None, c=None, dtype=torch.float64):
        super().__init__()
        self.network, self.output, self.c, self.kind = network().to(dtype), output, c, dtype
        self.path, self.evaluated = [], []

    def training_step(self, batch, batch_idx):
        x, y, index = batch
        logits = self.network(x.to(self.kind))
        return F.cross_entropy(logits, y, weight=self.c) if self.output is None else self.output(logits, y, index)

    def validation_step(self, batch, batch_idx):
        x, y, _ = batch
        self.evaluated.append(losses_of(self.network(x), y).mean())

    def configure_optimizers(self):
        return optimizer_of(self.network)

    def on_train_start(self):
        self.first, self.path = self.global_step, [parameters(self.network)]

    def on_train_batch_end(self, *args):
        if len(self.path) <= self.global_step - self.first:
            self.path.append(parameters(self.network))

    def steps(self):
        return torch.stack(self.path)


class Scaled(MixedPrecision):
    """The scaler without the half precision."""

    def forward_context(self):
        return nullcontext()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*data(), torch.arange(N), strict=True))


def loader(micro, dataset=None):
    return DataLoader(dataset or TensorDataset(*data(), torch.arange(N)), batch_size=micro)


def fit(module, accumulated, loader, *, callbacks=(), epochs=1, path=None, law=LAW, seed=SEED, size=None, **options):
    ours = [] if law is None else [ReweightCallback(law, seed=seed, module=options.pop("at", None), logical_batch=size)]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=accumulated,
        callbacks=[*ours, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, "num_sanity_val_steps": 0, **options},
    )
    loaders = loader if isinstance(loader, tuple) else (loader,)
    trainer.fit(module, *loaders, ckpt_path=path)
    return trainer


def hooks(module):
    return [hook for part in module.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_steps_are_those_of_the_plain_loop(accumulated, micro):
    """With the means and divisions of Lightning, also in the last logical batch, of 3 examples."""
    module = Net()
    fit(module, accumulated, loader(micro), epochs=2)
    same(module.steps(), plain_loop(logical_batches(2), split=(accumulated, micro)))
    assert not hooks(module)


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_are_lightning_itself(accumulated, micro, dtype):
    plain, ones, noisy = Net(dtype=dtype), Net(dtype=dtype), Net(dtype=dtype)
    for module, law in ((plain, None), (ones, FullBatch()), (noisy, LAW)):
        fit(module, accumulated, loader(micro), epochs=2, law=law)
    assert torch.equal(ones.steps(), plain.steps())
    assert not torch.equal(noisy.steps(), plain.steps())


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_a_scaler_and_class_weights(accumulated, micro):
    c = torch.tensor([0.2, 1.0, 3.0]).double()
    module = Net(c=c)
    scaled = Scaled("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    fit(module, accumulated, loader(micro), gradient_clip_val=0.1, plugins=[scaled])
    same(module.steps(), plain_loop(logical_batches(), c=c[data()[1]], clip=0.1, split=(accumulated, micro)))


class Skipping(torch.amp.GradScaler):
    """A scaler that finds an overflow in the first step."""

    found = False

    def step(self, optimizer, *args, **kwargs):
        found, self.found = self.found, True
        return super().step(optimizer, *args, **kwargs) if found else None


def test_a_step_that_a_scaler_skips():
    """No warning that the gradient was not used; the next step has the next draw."""
    module = Net()
    fit(module, 1, loader(8), plugins=[Scaled("16-mixed", "cpu", scaler=Skipping("cpu"))])
    steps, model = module.steps(), network()
    assert torch.equal(steps[1], steps[0])
    x, y = (part[8:16] for part in data())
    (LAW.draw(8, seed=SEED, step=1).dense().double() * losses_of(model(x), y)).mean().backward()
    optimizer_of(model).step()
    same(steps[2], parameters(model))


def test_accumulation_that_changes():
    module, scheduler = Net(), GradientAccumulationScheduler({0: 2, 1: 1, 2: 4})
    fit(module, 1, loader(4), callbacks=[scheduler], epochs=3)
    truth, batches = network(), []
    for number in (2, 1, 4):
        batches += [(number, batch) for batch in logical_batches(logical=4 * number)]
    optimizer, path = optimizer_of(truth), [parameters(truth)]
    for step, (number, batch) in enumerate(batches):
        w = LAW.draw(len(batch), seed=SEED, step=step).dense().double()
        x, y = (part[batch] for part in data())
        optimizer.zero_grad()
        parts = torch.arange(len(batch)).split(4)
        sum((w[part] * losses_of(truth(x[part]), y[part])).mean() / number for part in parts).backward()
        optimizer.step()
        path.append(parameters(truth))
    same(module.steps(), torch.stack(path))


def test_evaluation_does_not_change_or_advance():
    class Careful(Net):
        """Its validation computes gradients."""

        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            with torch.enable_grad():
                logits = self.network(batch[0]).requires_grad_()
                self.sums.append(torch.autograd.grad(logits.sum(), logits)[0])
                self.grads.append(torch.autograd.grad(self.network(batch[0]).sum(), self.network[2].bias)[0])

    module = Careful()
    module.sums, module.grads = [], []
    fit(module, 2, (loader(4), loader(9)), epochs=1, val_check_interval=1, num_sanity_val_steps=1, inference_mode=False)
    same(module.steps(), plain_loop(logical_batches(), split=(2, 4)))
    assert len(module.grads) == 1 + 7 * 3
    assert all(torch.equal(grad, torch.full((3,), 9.0).double()) for grad in module.grads)
    x, y = data()
    module.evaluated.clear()
    options = {"logger": False, "enable_progress_bar": False, "inference_mode": False}
    L.Trainer(accelerator="cpu", **options).validate(module, loader(N), verbose=False)
    torch.testing.assert_close(module.evaluated[0], losses_of(module.network(x), y).mean())


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


def test_a_closure_that_is_called_again_sees_the_same_draw():
    class Closures(Net):
        def configure_optimizers(self):
            return lbfgs(self.parameters())

    module, model, calls = Closures(), network(), []
    fit(module, 1, loader(9))
    optimizer, (x, y) = lbfgs(model.parameters()), data()
    for step, batch in enumerate(logical_batches(logical=9)):
        w = LAW.draw(9, seed=SEED, step=step).dense().double()

        def closure(w=w, batch=batch):
            losses = losses_of(model(x[batch]), y[batch])
            optimizer.zero_grad()
            (w * losses).mean().backward()
            calls.append(1)
            return losses.mean()

        optimizer.step(closure)
    assert len(calls) > 3
    same(module.steps()[-1], parameters(model))


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_two_views_of_an_example_have_one_weight(accumulated, micro):
    class Views(Net):
        def training_step(self, batch, batch_idx):
            return (super().training_step(batch, batch_idx) + super().training_step(batch, batch_idx)) / 2

    module = Views()
    fit(module, accumulated, loader(micro))
    same(module.steps(), plain_loop(logical_batches(), split=(accumulated, micro)))


def test_a_loader_that_cannot_tell():
    module = Net()
    with pytest.raises(ValueError, match=r"cannot tell how many examples a step will have.*logical_batch="):
        fit(module, 2, loader(4, Stream()))
    assert not hooks(module)  # detached after the exception too
    fit(module, 1, loader(8, Stream()))
    same(module.steps(), plain_loop(logical_batches()))
    told = Net()
    with pytest.raises(ValueError, match="optimizer step comes after 3 of 8 examples"):
        fit(told, 2, loader(4, Stream()), size=8)
    same(told.steps(), plain_loop(logical_batches()[:3]))
    with pytest.raises(ValueError, match="all 4 examples came, and the optimizer step comes later"):
        fit(Net(), 2, loader(4, Stream()), size=4)


class Tall(Net):
    """A module with a body and a head, whose body returns several rows for each example."""

    def __init__(self, *args):
        super().__init__(*args)
        self.body = torch.nn.Linear(4, 4).double()

    def training_step(self, batch, batch_idx):
        x, y, _ = batch
        rows = self.body(x.repeat(2, 1))
        return F.cross_entropy(self.network(rows[: len(x)] + rows[len(x) :]), y)


class Short(Net):
    """A module with a part that it does not use."""

    def training_step(self, batch, batch_idx):
        return self.network[0](batch[0]).sum()


@pytest.mark.parametrize(
    ("module", "at", "message"),
    [
        (Net(lambda logits, y, _: losses_of(logits, y)), None, r"a loss of shape \(4,\): return its usual mean"),
        (
            Tall(),
            None,
            r"Tall has not one child .*\(network, body\): pass module=.*let one module return",
        ),
        (Tall(), "head", r"Tall has no module 'head': pass module=, e.g. one of its children \(network, body\)"),
        (Tall(), "body", r"have 8 rows for a micro-batch of 4 examples: pass module="),
        (
            Short(),
            "network.1",
            r"did not use the outputs of Tanh, so that .* no weights: pass module=.* of Short",
        ),
    ],
)
def test_errors_name_the_remedy(module, at, message):
    with pytest.raises(ValueError, match=message):
        fit(module, 2, loader(4), at=at)
    assert not hooks(module)


def test_a_module_by_name():
    module, inner = Tall(), Net()
    fit(module, 2, loader(4), at="network")
    assert len(module.path) == 5
    fit(inner, 2, loader(4), at="network.2")
    same(inner.steps(), plain_loop(logical_batches(), split=(2, 4)))


class Leaving(Net):
    """A module that leaves out the third micro-batch, before or after it calls the network."""

    def __init__(self, late):
        super().__init__()
        self.late = late

    def training_step(self, batch, batch_idx):
        left_out = int(batch[2][0]) == 8
        if left_out and not self.late:
            return None
        loss = super().training_step(batch, batch_idx)
        return None if left_out else loss


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_micro_batch_that_is_left_out():
    early, late, whole = Leaving(False), Leaving(True), Leaving(True)
    fit(early, 2, loader(4))  # the examples that came are the logical batch
    batches = logical_batches()
    same(early.steps(), plain_loop([batches[0], batches[1][4:], *batches[2:]], split=(2, 4)))
    fit(late, 2, loader(4))  # the examples take their places in the draw
    assert len(late.path) == 5
    fit(whole, 1, loader(8))
    assert len(whole.path) == 5
