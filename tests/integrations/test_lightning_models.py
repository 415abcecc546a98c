"""Lightning with models that are compiled, averaged, checkpointed, or that compute their loss themselves."""

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from helpers.one_draw import SPLITS, logical_batches, network, parameters, plain_loop, same
from helpers.tiny_language import language_model, language_optimizer, language_plainly, sentences
from integrations.test_lightning import Net, fit, hooks, loader, pytestmark  # noqa: F401
from msgd.noise import FullBatch


class Speaker(L.LightningModule):
    """The model's own loss: a mean over tokens."""

    def __init__(self):
        super().__init__()
        self.model, self.path = language_model(), []

    def training_step(self, batch):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return language_optimizer(self.model)

    def on_train_start(self):
        self.path = [parameters(self.model)]

    def on_train_batch_end(self, *args):
        if len(self.path) <= self.global_step:
            self.path.append(parameters(self.model))


@pytest.mark.parametrize("split", [(1, 4), (2, 2), (4, 1)])
@pytest.mark.parametrize("at", [None, "model", "model.lm_head"])
def test_a_language_model(split, at):
    speaker = Speaker()
    if at == "model.lm_head" and split == (1, 4):
        speaker.extra = torch.nn.Linear(2, 2)  # a second child; the name is needed
    fit(speaker, split[0], DataLoader(sentences(), batch_size=split[1]), at=at)
    same(torch.stack(speaker.path), language_plainly(split), atol=1e-6)
    assert not hooks(speaker)
    assert "forward" not in vars(speaker.model.lm_head)


@pytest.mark.parametrize("split", [(1, 4), (2, 2)])
def test_weights_of_one_are_lightning_itself(split):
    plain, ones = Speaker(), Speaker()
    for speaker, law in ((plain, None), (ones, FullBatch())):
        fit(speaker, split[0], DataLoader(sentences(), batch_size=split[1]), law=law)
    assert torch.equal(torch.stack(ones.path), torch.stack(plain.path))


# what torch says to itself while it compiles
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor is being accessed")
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("compiled", ["child", "in place", "module"])
def test_compiled(split, compiled):
    module = whole = Net()
    if compiled == "child":
        module.network = torch.compile(module.network, backend="aot_eager")
    elif compiled == "in place":
        module.network.compile(backend="aot_eager")
    else:
        whole = torch.compile(module, backend="aot_eager")
    fit(whole, split[0], loader(split[1]))
    same(module.steps(), plain_loop(logical_batches(), split=split))


@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")
def test_compiled_and_used_before():
    """torch keeps what it compiled without the weights, unless attaching makes it forget."""
    module = Net()
    module.network = torch.compile(module.network, backend="aot_eager")
    fit(module, 1, loader(8), law=None)
    module.network._orig_mod.load_state_dict(network().state_dict())
    fit(module, 1, loader(8), at="network.2")
    same(module.steps(), plain_loop(logical_batches()))


def test_averaged_parameters():
    module = Net()
    fit(module, 2, (loader(4), loader(9)), callbacks=[WeightAveraging()])
    same(module.steps()[:-1], plain_loop(logical_batches(), split=(2, 4))[:-1])


def test_activation_checkpointing():
    class Checkpointed(Net):
        def training_step(self, batch, batch_idx):
            x, y, _ = batch
            return F.cross_entropy(checkpoint(self.network, x, use_reentrant=False), y)

    module = Checkpointed()
    fit(module, 2, loader(4))
    same(module.steps(), plain_loop(logical_batches(), split=(2, 4)))


def test_half_precision_with_weights_of_one():
    steps = []
    for law in (None, FullBatch()):
        module = Net(dtype=torch.float32)
        fit(module, 2, loader(4), law=law, precision="bf16-mixed")
        steps.append(module.steps())
    assert torch.equal(*steps)
