"""Lightning: whatever the accumulation, the steps are those of the plain loop; they resume, and errors are clear."""

from contextlib import nullcontext

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
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
from msgd.integrations.lightning import ReweightCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]


class Net(L.LightningModule):
    """The user's module; its one changed line is the loss without a mean."""

    def __init__(self, output=None):
        super().__init__()
        self.network, self.output, self.path, self.evaluated = network(), output, [], []

    def training_step(self, batch, batch_idx):
        x, y, index = batch
        losses = losses_of(self.network(x), y)
        return losses if self.output is None else self.output(losses, index)

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
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=accumulated,
        callbacks=[ReweightCallback(law, seed=seed, logical_batch=size), *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, "num_sanity_val_steps": 0, **options},
    )
    loaders = loader if isinstance(loader, tuple) else (loader,)
    trainer.fit(module, *loaders, ckpt_path=path)
    return trainer


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_steps_are_those_of_the_plain_loop(accumulated, micro):
    module = Net()
    fit(module, accumulated, loader(micro), epochs=2)
    same(module.steps(), plain_loop(logical_batches(2)))
    assert "training_step" not in vars(module)


def test_lightning_by_itself_does_not_take_losses_without_weights():
    """The control: a forgotten callback is an error, not a plain mean."""
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.callbacks.clear()
    with pytest.raises(RuntimeError, match="scalar outputs"):
        trainer.fit(Net(), loader(8))


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_a_scaler_and_own_weights(accumulated, micro):
    c = torch.rand(N, generator=torch.Generator().manual_seed(2)).double()

    def output(losses, index):
        start = int(index[0]) // LOGICAL * LOGICAL
        return {"loss": losses, "sample_weight": c[index], "total": c[start : start + LOGICAL].sum(), "more": 1}

    module = Net(output)
    scaled = Scaled("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    fit(module, accumulated, loader(micro), gradient_clip_val=0.1, plugins=[scaled])
    same(module.steps(), plain_loop(logical_batches(), c=c, clip=0.1))


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_stop_and_resume(tmp_path, accumulated, micro):
    straight, first, second = Net(), Net(), Net()
    fit(straight, accumulated, loader(micro), epochs=2)
    trainer = fit(first, accumulated, loader(micro), epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    fit(second, accumulated, loader(micro), epochs=2, path=tmp_path / "a.ckpt")
    assert torch.equal(second.steps(), straight.steps()[4:])
    with pytest.raises(ValueError, match="of seed 7, and this ReweightCallback has 8"):
        fit(Net(), accumulated, loader(micro), epochs=2, path=tmp_path / "a.ckpt", seed=8)


def test_resume_within_an_epoch(tmp_path):
    """Lightning begins the loader anew; where all examples are alike the noise alone tells the runs apart."""
    x, y = data()
    x, y = x[:1].expand(N, 4), y[:1].expand(N)
    alike = loader(2, TensorDataset(x, y, torch.arange(N)))
    saving = {"dirpath": tmp_path, "every_n_train_steps": 2, "save_top_k": -1, "filename": "{step}"}
    first, second = Net(), Net()
    fit(first, 4, alike, callbacks=[ModelCheckpoint(**saving)], enable_checkpointing=True)
    again = ModelCheckpoint(**saving)
    path = tmp_path / "step=2.ckpt"
    fit(second, 4, alike, callbacks=[again], epochs=2, path=path, enable_checkpointing=True)
    # The pass that begins anew does not come to its short batch: two whole micro-batches end the resumed epoch.
    batches = [*logical_batches()[:3], torch.arange(4), *logical_batches()]
    same(second.steps(), plain_loop(batches, examples=(x, y))[2:])


def test_accumulation_that_changes():
    module, scheduler = Net(), GradientAccumulationScheduler({0: 2, 1: 1, 2: 4})
    fit(module, 1, loader(4), callbacks=[scheduler], epochs=3)
    same(module.steps(), plain_loop(logical_batches() + logical_batches(logical=4) + logical_batches(logical=16)))


def test_evaluation_does_not_advance():
    module = Net()
    fit(module, 2, (loader(4), loader(9)), epochs=1, val_check_interval=1, num_sanity_val_steps=1)
    same(module.steps(), plain_loop(logical_batches()))
    x, y = data()
    module.evaluated.clear()
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(module, loader(N), verbose=False)
    torch.testing.assert_close(module.evaluated[0], losses_of(module.network(x), y).mean())


def test_a_closure_that_is_called_again_sees_the_same_draw():
    class Closures(Net):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)

        def training_step(self, batch, batch_idx):
            losses = super().training_step(batch, batch_idx)
            self.seen.append((self.global_step, losses.detach()))
            return losses

        def on_before_backward(self, loss):
            self.losses.append(loss.detach())

    module = Closures()
    module.seen, module.losses = [], []
    fit(module, 1, loader(9))
    assert len(module.seen) > 3
    for (step, losses), loss in zip(module.seen, module.losses, strict=True):
        w = LAW.draw(9, seed=SEED, step=step).dense().double()
        torch.testing.assert_close(loss, (w * losses).mean())


def test_a_loader_that_cannot_tell():
    module = Net()
    with pytest.raises(ValueError, match=r"cannot tell how many examples a step will have.*logical_batch="):
        fit(module, 2, loader(4, Stream()))
    assert "training_step" not in vars(module)  # given back after the exception too
    fit(module, 1, loader(8, Stream()))
    same(module.steps(), plain_loop(logical_batches()))
    told = Net()
    with pytest.raises(ValueError, match="optimizer step comes after 3 of 8 examples"):
        fit(told, 2, loader(4, Stream()), size=8)
    same(told.steps(), plain_loop(logical_batches()[:3]))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda losses, _: losses.mean(), 'reduction="none"'),
        (lambda losses, _: losses.repeat(2), "returned 8 losses for a micro-batch of 4 examples"),
        (lambda losses, _: {"loss": losses, "sample_weight": torch.ones(4)}, "pass total="),
    ],
)
def test_bad_output_names_the_remedy(output, message):
    with pytest.raises(ValueError, match=message):
        fit(Net(output), 2, loader(4))


def test_manual_optimization_is_refused():
    module = Net()
    module.automatic_optimization = False
    with pytest.raises(ValueError, match=r"msgd\.Reweighter"):
        fit(module, 1, loader(4))


def test_a_step_that_lightning_leaves_out():
    module = Net(lambda losses, index: None if index[0] == 8 else losses)
    with pytest.warns(UserWarning, match="`training_step` returned `None`"):
        fit(module, 1, loader(8))
    assert len(module.path) == 5
