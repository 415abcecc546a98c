"""reweight.outputs: whatever the loss is, its gradient becomes that of the examples, each times its weight.

The truth is written out each time: the gradient of every example from a batch of one, Σ_i w_i c_i ∇ℓ_i in float64.
"""

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from msgd import Reweighter
from msgd.noise import Bernoulli, Cov, Emulate, Fisher, FullBatch
from reweighting.brute_force import (
    EXACT,
    ROUNDED,
    SEED,
    batch,
    classified,
    classifier,
    far,
    gradient,
    weighted_sum,
    weights,
)

N, LAW = 8, Fisher(2)
CLASS_WEIGHT = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
T = torch.rand(N, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
C = torch.arange(1.0, N + 1, dtype=torch.float64)


WEIGHTED = batch()[1]
IGNORED = torch.where(torch.arange(N) == 2, -100, WEIGHTED)
#: the loss of some outputs and their rows, and the number by which that of an example alone is divided
LOSSES = {
    "mean": (lambda y, i: F.cross_entropy(y, WEIGHTED[i]), N),
    "sum": (lambda y, i: F.cross_entropy(y, WEIGHTED[i], reduction="sum"), 1),
    "class weights": (
        lambda y, i: F.cross_entropy(y, WEIGHTED[i], CLASS_WEIGHT, reduction="sum") / CLASS_WEIGHT[WEIGHTED].sum(),
        1,
    ),
    "ignored": (lambda y, i: F.cross_entropy(y, IGNORED[i], reduction="sum") / 7, 1),
    "smoothing": (lambda y, i: F.cross_entropy(y, WEIGHTED[i], label_smoothing=0.2), N),
    "squares": (lambda y, i: F.mse_loss(y, T[i]), N),
    "squares, added": (lambda y, i: F.mse_loss(y, T[i], reduction="sum"), 1),
    "logistic": (lambda y, i: F.binary_cross_entropy_with_logits(y, T[i], pos_weight=CLASS_WEIGHT), N),
    "own weights": (lambda y, i: (C[i] * F.cross_entropy(y, WEIGHTED[i], reduction="none")).sum() / C.sum(), 1),
    "own number": (lambda y, i: (y - T[i]).abs().sum() / 1234.5, 1),
    "robust": (lambda y, i: F.smooth_l1_loss(y, T[i], beta=0.1), N),
}
#: losses as a user writes them, whose denominators are those of the batch
MEANS = {
    "class weights": lambda y: F.cross_entropy(y, WEIGHTED, CLASS_WEIGHT),
    "ignored": lambda y: F.cross_entropy(y, IGNORED),
}


@pytest.mark.parametrize("law", [Fisher(2), Cov(2), Emulate(2), Bernoulli(2)], ids=repr)
@pytest.mark.parametrize("name", LOSSES)
def test_any_loss(name, law):
    (loss, n), model, (x, _) = LOSSES[name], classifier(), batch()
    w = weights(law, N)
    truth = weighted_sum(model, lambda m, i: loss(m(x[i : i + 1]), slice(i, i + 1)), w / n)
    whole = MEANS.get(name, lambda y: loss(y, slice(None)))
    whole(Reweighter(law, seed=SEED).outputs(model(x))).backward()
    assert far(gradient(model), truth) < EXACT
    model.zero_grad()
    plain = whole(model(x))
    plain.backward()
    assert far(gradient(model), truth) > 0.1  # the control: the loss without the weights
    assert torch.equal(plain, whole(Reweighter(law, seed=SEED).outputs(model(x))))  # what is printed stays


def test_float32_and_successive_steps():
    model, (x, y) = classifier(torch.float32), batch(dtype=torch.float32)
    reweight = Reweighter(LAW, seed=SEED)
    for step in range(4):
        model.zero_grad()
        F.cross_entropy(reweight.outputs(model(x)), y).backward()
        assert far(gradient(model), classified(model, LAW, x, y, step)) < ROUNDED
    assert reweight.step == 4
    assert far(gradient(model), classified(model, LAW, x, y, 2)) > 0.1


class Sequences(nn.Module):
    """A small transformer with one class for each sequence."""

    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Recurrent(nn.Module):
    """Time first: the examples are in dimension 1."""

    def __init__(self):
        super().__init__()
        self.body = nn.LSTM(4, 3)

    def forward(self, x):
        return self.body(x)[0]


def images():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


@pytest.mark.parametrize(("make", "shape"), [(images, (1, 4, 4)), (Sequences, (5, 4))])
def test_other_networks(make, shape):
    torch.manual_seed(0)
    model, x = make().double(), torch.randn(N, *shape, dtype=torch.float64)
    F.cross_entropy(Reweighter(LAW, seed=SEED).outputs(model(x)), WEIGHTED).backward()
    assert far(gradient(model), classified(model, LAW, x, WEIGHTED)) < EXACT


def test_examples_in_dimension_1():
    torch.manual_seed(0)
    model, x, y = Recurrent().double(), torch.randn(5, N, 4).double(), torch.randint(3, (5, N))
    outputs = Reweighter(LAW, seed=SEED).outputs(model(x), batch_dim=1)
    F.cross_entropy(outputs.flatten(0, 1), y.flatten()).backward()
    truth = weighted_sum(model, lambda m, i: F.cross_entropy(m(x[:, i : i + 1])[:, 0], y[:, i]), weights(LAW, N) / N)
    assert far(gradient(model), truth) < EXACT


def test_pixels_with_ignored_ones():
    """Segmentation: the mean over the pixels that count, whose number differs between images."""
    torch.manual_seed(0)
    model, x = nn.Conv2d(1, 3, 3, padding=1).double(), torch.randn(N, 1, 4, 4).double()
    y = torch.randint(-1, 3, (N, 4, 4))
    F.cross_entropy(Reweighter(LAW, seed=SEED).outputs(model(x)), y, ignore_index=-1).backward()
    counted = float((y >= 0).sum())

    def each(m, i):
        return F.cross_entropy(m(x[i : i + 1]), y[i : i + 1], ignore_index=-1, reduction="sum")

    assert far(gradient(model), weighted_sum(model, each, weights(LAW, N) / counted)) < EXACT


@dataclass
class Output(ModelOutput):
    logits: torch.Tensor | None = None
    extra: torch.Tensor | None = None
    ids: torch.Tensor | None = None


STRUCTURES = {
    "tuple": (lambda a, b, ids: (a, b, ids, None), lambda o: o[:2]),
    "list": (lambda a, b, ids: [ids, a, [b]], lambda o: (o[1], o[2][0])),
    "dictionary": (
        lambda a, b, ids: {"a": a, "deep": {"b": (b, "text")}, "ids": ids},
        lambda o: (o["a"], o["deep"]["b"][0]),
    ),
    "model output": (lambda a, b, ids: Output(logits=a, extra=b, ids=ids), lambda o: (o.logits, o["extra"])),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_several_outputs(name):
    """Both weighted, by the weights of one draw; integers and None stay what they are."""
    (pack, unpack), model, (x, y) = STRUCTURES[name], classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)

    def both(a, b, i):
        return F.cross_entropy(a, y[i]) + (b * a).square().sum(1).mean()

    packed = pack(model(x), x @ model[0].weight.T[:, :3], torch.arange(N))
    outputs = reweight.outputs(packed)
    assert type(outputs) is type(packed)
    assert reweight.step == 1
    both(*unpack(outputs), slice(None)).backward()
    truth = weighted_sum(
        model,
        lambda m, i: both(m(x[i : i + 1]), x[i : i + 1] @ m[0].weight.T[:, :3], slice(i, i + 1)),
        weights(LAW, N) / N,
    )
    assert far(gradient(model), truth) < EXACT


@pytest.mark.parametrize(
    ("outputs", "more", "error", "message"),
    [
        (torch.ones(()), {}, ValueError, "it looks like a loss"),
        ((torch.ones(4), torch.ones(())), {}, ValueError, "it looks like a loss"),
        ((torch.ones(4, 2), torch.ones(5)), {}, ValueError, "have 4 and 5 examples"),
        (torch.ones(4, 2), {"batch_dim": -1}, ValueError, "no dimension -1"),
        (torch.ones(0, 2), {}, ValueError, "the batch is empty"),
        (torch.ones(4), {"examples": torch.full((4,), -1)}, ValueError, "all numbers in examples= are negative"),
        (torch.ones(4), {"examples": torch.ones(4)}, TypeError, "whole numbers"),
        (torch.ones(4), {"examples": torch.arange(3)}, ValueError, "the shape of the first dimensions"),
        (torch.ones(4, 4), {"examples": torch.ones(4, 4).long(), "batch_dim": 1}, ValueError, "leave batch_dim= out"),
        (torch.ones(4), {"offset": 2}, ValueError, "offset goes with step"),
        (torch.ones(4), {"step": -1}, ValueError, "step"),
        (3.0, {}, TypeError, "must be a tensor"),
        (nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)]), {}, TypeError, "call pad_packed_sequence before"),
    ],
)
def test_bad_outputs_name_the_remedy(outputs, more, error, message):
    for y in outputs if isinstance(outputs, tuple) else [outputs]:
        if isinstance(y, torch.Tensor) and y.is_floating_point():
            y.requires_grad_()
    with pytest.raises(error, match=message):
        Reweighter(LAW, seed=0).outputs(outputs, **more)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_accumulation_with_a_loss_that_is_divided_by_k_and_a_short_last_step(k):
    model, (x, y) = classifier(), batch(14)
    reweight = Reweighter(Cov(2), seed=SEED, logical_batch=8)
    for step, rows in enumerate([range(8), range(8, 14)]):
        model.zero_grad()
        if len(rows) < 8:
            reweight.begin(len(rows))
        parts = torch.tensor(list(rows)).tensor_split(k)
        for part in parts:
            mean = F.cross_entropy(reweight.outputs(model(x[part])), y[part])
            (mean * len(part) / len(rows)).backward()  # /k where the micro-batches are equal
        own = torch.tensor(list(rows))
        assert far(gradient(model), classified(model, Cov(2), x[own], y[own], step)) < EXACT
        assert (reweight.step, reweight.offset) == (step + 1, 0)


def test_resume_in_the_middle_of_a_logical_batch():
    model, (x, y) = classifier(), batch()
    first = Reweighter(Cov(2), seed=SEED, logical_batch=8)
    F.cross_entropy(first.outputs(model(x)), y).backward()
    model.zero_grad()
    (F.cross_entropy(first.outputs(model(x[:3])), y[:3], reduction="sum") / 8).backward()
    second = Reweighter(Cov(2), seed=SEED, logical_batch=8)
    second.load_state_dict(first.state_dict())
    (F.cross_entropy(second.outputs(model(x[3:])), y[3:], reduction="sum") / 8).backward()
    assert far(gradient(model), classified(model, Cov(2), x, y, 1)) < EXACT


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_weights_of_1_are_the_plain_step_to_the_bit(dtype):
    found = []
    for law in (None, FullBatch(), Fisher(2)):
        model, (x, y) = classifier(dtype), batch(dtype=dtype)
        outputs = model(x) if law is None else Reweighter(law, seed=SEED).outputs(model(x))
        F.cross_entropy(outputs, y).backward()
        found.append(gradient(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_evaluation_changes_nothing_and_does_not_advance(guard):
    model, (x, _) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    with guard():
        y = model(x)
        assert reweight.outputs(y) is y
        reweight.outputs((y.sum(), y[:3]))  # a shape that would be refused in training
    plain = x.clone()
    assert reweight.outputs(plain) is plain  # nothing to weight
    assert reweight.step == 0


def test_two_passes_of_sam_with_one_draw():
    model, (x, y) = classifier(), batch()
    reweight, rho = Reweighter(LAW, seed=SEED), 0.05
    for step in range(2):
        model.zero_grad()
        truth = classified(model, LAW, x, y, step)
        F.cross_entropy(reweight.outputs(model(x), step=step), y).backward()
        moves = [rho * p.grad / gradient(model).norm() for p in model.parameters()]
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for p, q, move in zip(model.parameters(), moved.parameters(), moves, strict=True):
                p += move
                q.copy_(p)
        assert far(gradient(model), truth) < EXACT
        model.zero_grad()
        F.cross_entropy(reweight.outputs(model(x), step=step), y).backward()
        assert far(gradient(model), classified(moved, LAW, x, y, step)) < EXACT
    assert reweight.step == 0


def test_a_part_of_a_given_step():
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(Cov(2), seed=SEED, logical_batch=8)
    for offset in (0, 5):
        part = slice(offset, offset + 5)
        outputs = reweight.outputs(model(x[part]), step=3, offset=offset)
        (F.cross_entropy(outputs, y[part], reduction="sum") / 8).backward()
    assert far(gradient(model), classified(model, Cov(2), x, y, 3)) < EXACT


def test_a_penalty_on_the_gradient_with_respect_to_the_inputs():
    """Computed before the gate, and weighted with the outputs: each example's own penalty times its own weight."""
    model, (x, y) = classifier(), batch()

    def parts(m, x, y):
        x = x.clone().requires_grad_()
        outputs = m(x)
        (slope,) = torch.autograd.grad(F.cross_entropy(outputs, y, reduction="sum"), x, create_graph=True)
        return outputs, slope.square().sum(1)

    outputs, penalty = Reweighter(LAW, seed=SEED).outputs(parts(model, x, y))
    (F.cross_entropy(outputs, y) + 0.3 * penalty.mean()).backward()

    def each(m, i):
        outputs, penalty = parts(m, x[i : i + 1], y[i : i + 1])
        return F.cross_entropy(outputs, y[i : i + 1]) + 0.3 * penalty.mean()

    assert far(gradient(model), weighted_sum(model, each, weights(LAW, N) / N)) < EXACT
    model.zero_grad()
    outputs, penalty = parts(model, x, y)
    outputs = Reweighter(LAW, seed=SEED).outputs(outputs)  # the control: the penalty is left out
    (F.cross_entropy(outputs, y) + 0.3 * penalty.mean()).backward()
    assert far(gradient(model), weighted_sum(model, each, weights(LAW, N) / N)) > 1e-3


class Tied(nn.Module):
    """A language model whose head has the weight of its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)

    def forward(self, ids):
        h = self.embedding(ids).tanh()
        return F.linear(h.cumsum(1), self.embedding.weight)


def test_tied_embeddings_and_a_mean_over_tokens():
    torch.manual_seed(0)
    model, ids = Tied().double(), torch.randint(11, (N, 6))
    labels = torch.where(torch.rand(N, 6) < 0.3, -100, ids)
    F.cross_entropy(Reweighter(LAW, seed=SEED).outputs(model(ids)).flatten(0, 1), labels.flatten()).backward()

    def each(m, i):
        return F.cross_entropy(m(ids[i : i + 1])[0], labels[i], reduction="sum")

    assert far(gradient(model), weighted_sum(model, each, weights(LAW, N) / float((labels >= 0).sum()))) < EXACT


#: rows, and the example that each token belongs to: whole rows, gaps, numbers that start again, and -1 for none
PACKED = {
    "each row": torch.arange(4)[:, None].expand(4, 6),
    "two in a row": torch.arange(8).view(4, 2).repeat_interleave(3, 1),
    "starting again in each row": torch.tensor([[0, 0, 1, 1, 1, 2]]).expand(4, 6),
    "gaps and none": torch.tensor([[7, 7, -1, 9, 9, 9], [3, 3, 3, -1, -1, -1], [9, 9, 7, 7, 7, 7], [-1] + [0] * 5]),
    "interleaved": torch.tensor([[0, 1, 0, 1, 0, 1]]).expand(4, 6),
}


def documents(ids):
    """The places of each document, in the order of rows and numbers."""
    pairs = sorted({(row, int(i)) for row, numbers in enumerate(ids) for i in numbers if i >= 0})
    return [(row, (ids[row] == i).nonzero().flatten()) for row, i in pairs]


@pytest.mark.parametrize("name", PACKED)
def test_documents_that_are_packed_into_rows(name):
    torch.manual_seed(0)
    ids, model = PACKED[name], classifier()
    x, y = torch.randn(4, 6, 4).double(), torch.randint(3, (4, 6))
    y = torch.where(ids >= 0, y, -100)
    reweight = Reweighter(LAW, seed=SEED)
    F.cross_entropy(reweight.outputs(model(x), examples=ids).flatten(0, 1), y.flatten()).backward()
    found = documents(ids)
    w = weights(LAW, len(found))
    truth = weighted_sum(
        model,
        lambda m, i: F.cross_entropy(m(x[found[i][0], found[i][1]]), y[found[i][0], found[i][1]], reduction="sum"),
        w / float((y >= 0).sum()),
    )
    assert far(gradient(model), truth) < EXACT
    model.zero_grad()
    F.cross_entropy(Reweighter(LAW, seed=SEED).outputs(model(x)).flatten(0, 1), y.flatten()).backward()
    assert (far(gradient(model), truth) < EXACT) == (name == "each row")


def test_pairs_of_rows_are_one_example():
    """As in DPO: the chosen answers and then the rejected ones, one weight for each pair."""
    model, (x, _) = classifier(), batch()
    pair = torch.arange(4).repeat(2)

    def loss(chosen, rejected):
        return -F.logsigmoid(chosen.sum(1) - rejected.square().sum(1)).mean()

    reweight = Reweighter(LAW, seed=SEED)
    loss(*reweight.outputs(model(x), examples=pair).chunk(2)).backward()
    truth = weighted_sum(model, lambda m, i: loss(m(x[i : i + 1]), m(x[i + 4 : i + 5])), weights(LAW, 4) / 4)
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_a_grad_scaler(dtype):
    model, (x, y) = classifier(torch.float32), batch(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with torch.autocast("cpu", dtype):
        outputs = Reweighter(LAW, seed=SEED).outputs(model(x))
        loss = F.cross_entropy(outputs, y)
    assert outputs.dtype == dtype
    scaler.scale(loss).backward()
    truth = classified(model, LAW, x, y)
    assert 1e-5 < far(gradient(model) / 2.0**10, truth) < (0.02 if dtype == torch.bfloat16 else 0.003)


def inside(model, reweight, x, y, reentrant):
    def region(x):
        return F.cross_entropy(reweight.outputs(model(x)).sin(), y)

    return checkpoint(region, x.requires_grad_(reentrant), use_reentrant=reentrant)


def test_a_gate_inside_of_a_checkpoint_draws_once():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)
    for step in range(3):
        model.zero_grad()
        inside(model, reweight, x, y, False).backward()
        truth = weighted_sum(
            model, lambda m, i: F.cross_entropy(m(x[i : i + 1]).sin(), y[i : i + 1]), weights(LAW, N, step) / N
        )
        assert far(gradient(model), truth) < EXACT
        assert reweight.step == step + 1


def test_a_gate_inside_of_a_reentrant_checkpoint_is_refused():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)
    loss = inside(model, reweight, x, y, True)
    with pytest.raises(ValueError, match="use use_reentrant=False, or weight the outputs outside of it"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_gate_behind_a_checkpoint(reentrant):
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)
    outputs = checkpoint(model, x.requires_grad_(reentrant), use_reentrant=reentrant)
    F.cross_entropy(reweight.outputs(outputs), y).backward()
    assert far(gradient(model), classified(model, LAW, x.detach(), y)) < EXACT
    assert reweight.step == 1


def test_checkpoints_within_checkpoints_draw_once():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)

    def inner(x):
        return checkpoint(lambda x: reweight.outputs(model(x)).sin(), x, use_reentrant=False)

    checkpoint(lambda x: F.cross_entropy(inner(x), y), x, use_reentrant=False).backward()
    truth = weighted_sum(model, lambda m, i: F.cross_entropy(m(x[i : i + 1]).sin(), y[i : i + 1]), weights(LAW, N) / N)
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 1


def test_a_loss_in_a_function_that_torch_differentiates():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)

    def loss(parameters):
        return F.cross_entropy(reweight.outputs(torch.func.functional_call(model, parameters, x)), y)

    grads = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    assert far(torch.cat([g.flatten() for g in grads.values()]), classified(model, LAW, x, y)) < EXACT


def test_a_second_backward_pass_has_the_same_weights():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)
    loss = F.cross_entropy(reweight.outputs(model(x)), y)
    loss.backward(retain_graph=True)
    reweight.outputs(model(x), step=4)
    loss.backward()
    assert far(gradient(model), 2 * classified(model, LAW, x, y)) < EXACT


def test_losses_inside_of_a_checkpoint_are_refused():
    model, (x, y), reweight = classifier(), batch(), Reweighter(LAW, seed=SEED)
    loss = checkpoint(lambda x: reweight(F.cross_entropy(model(x), y, reduction="none")), x, use_reentrant=False)
    with pytest.raises(ValueError, match="inside activation checkpointing, which computes it twice: call it outside"):
        loss.backward()


def test_the_mean_for_the_log_is_the_plain_one():
    reweight = Reweighter(LAW, seed=SEED, logical_batch=8)
    with pytest.raises(ValueError, match="last_mean follows"):
        reweight.last_mean  # noqa: B018
    values = torch.arange(1.0, 9).requires_grad_()
    for start in (0, 5):
        reweight(values[start : start + 5])
    assert float(reweight.last_mean) == 4.5
    with torch.no_grad():
        reweight(values[:2])
    assert float(reweight.last_mean) == 4.5  # evaluation is no training
    reweight(values[:5])
    assert float(reweight.last_mean) == 3.0
    own = Reweighter(LAW, seed=SEED)
    own(values, sample_weight=C.float())
    assert float(own.last_mean) == pytest.approx(float((C * C).sum() / C.sum()))
    assert not own.last_mean.requires_grad


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_copy_goes_on_by_itself(copied):
    """Also where the original has seen a loss and is watched by an optimizer."""
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(Cov(2), seed=SEED)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(reweight.outputs(model(x)), y).backward()
    reweight.watch(optimizer, learn=True)
    other = copied(reweight)
    assert other.step == 1
    model.zero_grad()
    F.cross_entropy(other.outputs(model(x)), y).backward()
    assert far(gradient(model), classified(model, Cov(2), x, y, 1)) < EXACT
    assert (reweight.step, other.step) == (1, 2)
    torch.compile(lambda x: other.outputs(model(x)), backend="aot_eager", fullgraph=True)(x)
    assert (reweight.step, other.step) == (1, 3)
