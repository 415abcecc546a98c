"""reweight.check: every verdict, of losses that are right and of each usual mistake; and nothing is left changed."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from msgd import Reweighter
from msgd.noise import Cov, Emulate, FullBatch
from reweighting.brute_force import SEED, batch, classifier


def reweighter(law=None, **more):
    return Reweighter(law or Cov(2), seed=SEED, **more)


def found(loss, model=None, inputs=None, **more):
    reweight = reweighter(**more)
    return reweight.check(model or classifier(), inputs or batch(6), lambda m, batch: loss(reweight, m, *batch))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("loss", "scale", "words"),
    [
        (lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y), 1 / 6, "the loss is their mean"),
        (lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y, reduction="sum"), 1, "the loss is their sum"),
        (lambda r, m, x, y: r(F.cross_entropy(m(x), y, reduction="none")), 1 / 6, "the loss is their mean"),
        (lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y) / 4, 1 / 6, "the loss is their mean"),
        (
            lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y) * len(x) ** 0.5,
            6**-0.5,
            "a sum in which they count 2.45 to 2.45 times as in their mean",
        ),
    ],
)
def test_right_losses(loss, scale, words, dtype):
    result = found(loss, classifier(dtype), batch(6, dtype))
    assert result.passed
    assert str(result).startswith("the gradient is that of 6 weighted examples (relative error ")
    assert words in str(result)
    assert result.scale == pytest.approx([scale] * 6)
    assert max(result.error, result.coupling) < (1e-12 if dtype == torch.float64 else 1e-5)
    assert "\n" not in str(result)


def test_a_mean_over_tokens():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11)).double()
    ids = torch.randint(11, (4, 5))
    counted = torch.arange(5) < torch.tensor([5, 1, 3, 3])[:, None]
    labels = torch.where(counted, ids, -100)
    result = found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)).flatten(0, 1), y.flatten()), model, (ids, labels))
    assert result.passed
    assert result.scale == pytest.approx([5 / 12, 1 / 12, 3 / 12, 3 / 12])
    assert "count 0.333 to 1.67 times as in their mean, as in a mean over tokens" in str(result)


def test_weights_without_effect():
    result = found(lambda r, m, x, y: F.cross_entropy(m(x), y) + 0 * r.outputs(m(x)).sum())
    assert not result.passed
    assert str(result).startswith("the weights have no effect, because the loss does not depend on weighted outputs")
    assert result.error > 0.1
    assert result.coupling < 1e-12
    assert not found(lambda _, m, x, y: F.cross_entropy(m(x), y)).passed


def test_a_part_of_the_gradient():
    def loss(r, m, x, y):
        outputs = m(x)
        return F.cross_entropy(r.outputs(outputs), y) + outputs.square().mean()

    result = found(loss)
    assert not result.passed
    assert str(result).startswith("only a part of the gradient is weighted (relative error ")
    assert "a penalty on other outputs" in str(result)
    assert result.coupling < 1e-12


def test_weights_that_are_applied_twice_are_found():
    result = found(lambda r, m, x, y: F.cross_entropy(r.outputs(r.outputs(m(x), step=r.step)), y))
    assert not result.passed


def test_weights_of_other_examples_than_the_rows():
    """Outputs that are weighted by two draws, documents that are packed, and pairs of rows."""
    twice = found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y) + r.outputs(m(x)).square().mean())
    assert not twice.passed
    assert str(twice).startswith("the loss weights 12 examples in 6 rows, 2 for each: if these are the tokens")
    pairs = found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x), examples=torch.arange(len(x)) // 2), y))
    assert str(pairs).startswith("the loss weights 3 examples in 6 rows")


def test_batch_norm_without_a_module():
    model = classifier()
    x, y = batch(6)
    reweight = reweighter()

    def loss(m, inputs):
        return F.cross_entropy(reweight.outputs(F.batch_norm(m(inputs[0]), None, None, training=True)), inputs[1])

    result = reweight.check(model, (x, y), loss)
    assert not result.passed
    assert "F.batch_norm" in str(result)


def test_inputs_of_a_tokenizer():
    from transformers import BatchEncoding

    x, y = batch(6)
    reweight = reweighter()

    def loss(m, inputs):
        return F.cross_entropy(reweight.outputs(m(inputs["x"])), inputs["y"])

    assert reweight.check(classifier(), BatchEncoding({"x": x, "y": y}), loss).passed


def test_coupled_examples():
    def contrastive(r, m, x, y):
        del y
        h = F.normalize(r.outputs(m(x)), dim=1)
        return F.cross_entropy(h @ h.T / 0.1 - 9 * torch.eye(6), torch.arange(6).roll(1))

    def contrastive_alone(r, m, x, y):  # a batch of one has no others
        return contrastive(r, m, x, y) if len(x) == 6 else F.cross_entropy(r.outputs(m(x)), y)

    result = found(contrastive_alone)
    assert not result.passed
    assert str(result).startswith("the examples are coupled: the gradient of the batch is no sum of gradients")
    assert "contrastive" in str(result)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d, nn.SyncBatchNorm, lambda n: nn.BatchNorm1d(n, track_running_stats=False)]
)
def test_batch_norm_is_named(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), norm(6), nn.Linear(6, 3)).double()
    result = found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y), model)
    assert not result.passed
    assert str(result) == "the examples are coupled: 1 normalises over the batch (BatchNorm)"
    if model[1].running_mean is not None:  # with fixed statistics each example is alone
        assert found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y), model.eval()).passed


@dataclass
class Out(ModelOutput):
    loss: torch.Tensor | None = None


class Model(nn.Module):
    """With dropout, buffers that a forward pass changes, and a loss of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)).double()
        self.net[3].eval()
        self.register_buffer("passes", torch.zeros(()))

    def get_output_embeddings(self):
        return self.net[3]

    def forward(self, x, y):
        self.passes += 1
        logits = self.net(x)
        return Out(F.cross_entropy(logits, y))


def test_a_model_that_is_attached_to():
    reweight, model = reweighter(), Model()
    reweight.attach(model)
    x, y = batch(6)
    result = reweight.check(model, {"x": x, "y": y})
    assert result.passed, result
    assert "their mean" in str(result)
    with pytest.raises(ValueError, match="without loss= the inputs must be a dictionary"):
        reweight.check(model, (x, y))


def test_a_loss_that_bypasses_what_is_attached_to_says_so():
    class Fused(Model):
        def forward(self, x, y):
            h = self.net[:3](x)
            return Out(F.cross_entropy(F.linear(h, self.net[3].weight), y))

    reweight, model = reweighter(), Fused()
    reweight.attach(model)
    with pytest.raises(ValueError, match="was not called: a fused loss"):
        reweight.check(model, dict(zip("xy", batch(6), strict=True)))


@pytest.mark.parametrize("how", ["passes", "fails"])
def test_nothing_is_left_changed(how):
    model, reweight = Model(), reweighter(Emulate(2), logical_batch=8)
    (x, y), plain = batch(6), classifier()
    F.cross_entropy(reweight.outputs(plain(x[:5])), y[:5]).backward()
    reweight(torch.ones(1, requires_grad=True))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    reweight.watch(optimizer)
    state, mean = reweight.state_dict(), reweight.last_mean
    modes = [module.training for module in model.modules()]
    gradients = [p.grad for p in model.parameters()]
    seen = reweight.examples_since_step
    drawn = torch.get_rng_state()

    def loss(m, inputs):
        if how == "fails":
            raise RuntimeError("in the loss")
        return F.cross_entropy(reweight.outputs(m.net(inputs[0])), inputs[1]) + 0 * m(*inputs).loss

    if how == "passes":
        assert reweight.check(model, (x, y), loss).passed
    else:
        with pytest.raises(RuntimeError, match="in the loss"):
            reweight.check(model, (x, y), loss)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert reweight.state_dict() == state
    assert (reweight.law, reweight.examples_since_step) == (Emulate(2), seen)
    assert torch.equal(reweight.last_mean, mean)
    assert [module.training for module in model.modules()] == modes
    assert [p.grad for p in model.parameters()] == gradients
    assert float(model.passes) == 0
    reweight.outputs(plain(x[:2]))
    optimizer.step()  # the watch saw 5 + 1 + 2 examples


def test_the_check_does_not_depend_on_the_law_or_on_the_batch_of_the_reweighter():
    """It has weights of its own: those of FullBatch would show nothing, and Cov(20) has no draw for 6 examples."""
    for more in ({"law": FullBatch()}, {"law": Cov(2), "logical_batch": 4}, {"law": Emulate(20)}):
        assert found(lambda r, m, x, y: F.cross_entropy(r.outputs(m(x)), y), **more).passed
        assert not found(lambda _, m, x, y: F.cross_entropy(m(x), y), **more).passed


def test_it_is_silent_within_a_loop_and_does_not_end_the_first_look():
    reweight, model, (x, y) = reweighter(), classifier(), batch(6)
    F.cross_entropy(reweight.outputs(model(x)), y).backward()
    for _ in range(2):
        assert reweight.check(model, (x, y), lambda m, b: F.cross_entropy(reweight.outputs(m(b[0])), b[1])).passed
    with pytest.warns(UserWarning, match="pass logical_batch="):
        F.cross_entropy(reweight.outputs(model(x)), y)


def test_examples_that_are_packed_or_in_structures():
    """A dictionary with tensors that are no examples; the documents of a row are coupled, and go together."""
    reweight, model = reweighter(), classifier()
    x, y = batch(6)

    def loss(m, inputs):
        return F.cross_entropy(reweight.outputs(m(inputs["deep"][0] * inputs["scale"])), inputs["y"])

    assert reweight.check(model, {"y": y, "deep": [x], "scale": torch.tensor(2.0), "name": "text"}, loss).passed


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
def test_compiled_losses():
    reweight, model = reweighter(), classifier()

    def loss(m, inputs):
        return F.cross_entropy(reweight.outputs(m(inputs[0])), inputs[1])

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", dynamic=True)
    assert reweight.check(model, batch(6), compiled).passed
    assert reweight.step == 0


@pytest.mark.parametrize(
    ("inputs", "loss", "message"),
    [
        (batch(1), None, "a batch of 2 to 16 examples, not 1"),
        (batch(17), None, "not 17: pass a small part"),
        ("text", None, "not inputs without tensors"),
        (torch.tensor(1.0), None, "not inputs without tensors"),
        (batch(6), lambda m, b: m(b[0]), "the loss must be a scalar tensor with a gradient"),
        (batch(6), lambda m, b: m(b[0]).sum().detach(), "the loss must be a scalar tensor with a gradient"),
        (batch(6), lambda m, b: float(m(b[0]).sum().detach()), "the loss must be a scalar tensor with a gradient"),
        (batch(6), lambda m, b: m(b[0]).sum() * float("nan"), "the gradient is not finite"),
        (
            (batch(6)[0], torch.tensor([0, 1, -100, 1, 2, 0])),
            lambda m, b: (m(b[0]).sum(1) * (b[1] >= 0)).sum() / (b[1] >= 0).sum(),
            "the gradient of example 2 is not finite: choose examples that each have targets of their own",
        ),
    ],
)
def test_what_cannot_be_checked_says_why(inputs, loss, message):
    with pytest.raises(ValueError, match=message):
        reweighter().check(classifier(), inputs, loss)
