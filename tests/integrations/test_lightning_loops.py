"""Lightning where the loop is the user's: manual optimization, and Fabric, which needs no integration."""

import pytest
import torch
from lightning.fabric import Fabric
from torch.nn import functional as F

from helpers.one_draw import (
    LAW,
    LOGICAL,
    SEED,
    SPLITS,
    data,
    logical_batches,
    losses_of,
    network,
    optimizer_of,
    parameters,
    plain_loop,
    same,
)
from integrations.test_lightning import Net, fit, loader, pytestmark  # noqa: F401
from msgd import Reweighter


class Manual(Net):
    """Manual optimization, with an optimizer step after some training steps."""

    def __init__(self, every):
        super().__init__()
        self.automatic_optimization, self.every = False, every

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx) / self.every)
        if (batch_idx + 1) % self.every == 0 or batch_idx + 1 == self.trainer.num_training_batches:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


def test_manual_optimization():
    module, several, short = Manual(1), Manual(2), Manual(2)
    fit(module, 1, loader(8), epochs=2)
    same(module.steps(), plain_loop(logical_batches(2)))
    fit(several, 1, loader(4), epochs=2, size=8, limit_train_batches=6)
    same(several.steps(), plain_loop([*logical_batches()[:3]] * 2, split=(2, 4)))
    with pytest.raises(ValueError, match=r"several training steps for one optimizer step: .* pass logical_batch="):
        fit(Manual(2), 1, loader(4))
    with pytest.raises(ValueError, match="the optimizer step came after 3 of 8 examples"):
        fit(short, 1, loader(4), epochs=2, size=8)
    unused = Manual(1)
    unused.other = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="training_step did not use the outputs of Linear"):
        fit(unused, 1, loader(4), at="other")


def test_two_optimizers_in_a_training_step():
    """Each optimizer step has a draw of its own."""

    class Two(Manual):
        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(Net.training_step(self, batch, batch_idx))
                optimizer.step()

        def configure_optimizers(self):
            return optimizer_of(self.network), optimizer_of(self.network)

    module, model = Two(1), network()
    fit(module, 1, loader(8))
    optimizers, (x, y) = [optimizer_of(model), optimizer_of(model)], data()
    for step in range(8):
        batch = logical_batches()[step // 2]
        w = LAW.draw(len(batch), seed=SEED, step=step).dense().double()
        optimizers[step % 2].zero_grad()
        (w * losses_of(model(x[batch]), y[batch])).mean().backward()
        optimizers[step % 2].step()
    same(parameters(module.network), parameters(model))


def fabric_steps(accumulated, micro, **options):
    """Parameters at the start and after each step of a loop with Fabric, whose only changed line is the loss."""
    fabric = Fabric(accelerator="cpu", **options)
    fabric.launch()
    model = network()
    path, (model, optimizer) = [parameters(model)], fabric.setup(model, optimizer_of(model))
    batches = fabric.setup_dataloaders(loader(micro))
    reweight = Reweighter(LAW, seed=SEED)
    reweight.watch(optimizer)
    together = len(batches.sampler) * fabric.world_size  # with the examples that fill the last batches
    for number, (x, y, *_) in enumerate(batches):
        last = (number + 1) % accumulated == 0 or number + 1 == len(batches)
        if number % accumulated == 0:
            reweight.begin(min(LOGICAL, together - number * micro * fabric.world_size))
        with fabric.no_backward_sync(model, enabled=not last):
            fabric.backward(F.cross_entropy(reweight.outputs(model(x)), y) / accumulated)
        if last:
            optimizer.step()
            optimizer.zero_grad()
            path.append(parameters(model))
    return torch.stack(path)


@pytest.mark.parametrize("split", SPLITS)
def test_fabric_needs_no_integration(split):
    """A loop with Fabric is a plain loop: msgd.Reweighter, with the size of each logical batch."""
    same(fabric_steps(*split, devices=1), plain_loop(logical_batches(), split=split))
