"""Warnings about calls that look wrong: each comes once, names the user's line, and stays away from right loops."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msgd import Reweighter
from msgd.noise import Fisher
from msgd.reweighting.suspicions import Suspicions, _flattened_from
from reweighting.brute_force import SEED, batch, classifier

LAW = Fisher(2)


def warned(call):
    """The messages of a call, and the lines that they name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(str(each.message), each.filename, each.lineno) for each in caught]


def use(kind, reweight, outputs, targets):
    """The loss of a user, made in one of two ways."""
    if kind == "outputs":
        return F.cross_entropy(reweight.outputs(outputs), targets)
    return reweight(F.cross_entropy(outputs, targets, reduction="none"))


@pytest.fixture(params=["outputs", "losses"])
def kind(request):
    return request.param


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    lambda p: torch.optim.Adam(p, lr=0.1),
    lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    lambda p: torch.optim.AdamW(p, lr=0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("zero", ["first", "before backward", "before backward, to zero", "last", "model"])
def test_an_ordinary_loop_is_silent(make, zero, kind):
    model, (x, y) = classifier(), batch()
    optimizer, reweight = make(model.parameters()), Reweighter(LAW, seed=SEED)
    for _ in range(3):
        if zero == "first":
            optimizer.zero_grad()
        loss = use(kind, reweight, model(x), y)
        if zero.startswith("before backward"):
            optimizer.zero_grad(set_to_none="zero" not in zero)
        loss.backward()
        optimizer.step()
        if zero == "last":
            optimizer.zero_grad()
        if zero == "model":
            model.zero_grad()
    assert reweight.step == 3


def accumulate(kind, reweight, steps=2, watch=None, **more):
    model, (x, y) = classifier(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if watch:
        reweight.watch(optimizer, **more)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):
            use(kind, reweight, model(x), y).backward()
        optimizer.step()


def test_accumulation_that_was_not_announced_warns_once(kind):
    found = warned(lambda: accumulate(kind, Reweighter(LAW, seed=SEED), steps=3))
    assert len(found) == 1
    message, file, line = found[0]
    assert "with gradient accumulation pass logical_batch=" in message
    assert file == __file__
    assert use.__code__.co_firstlineno < line <= use.__code__.co_firstlineno + 4  # the line of the call


def test_accumulation_that_was_announced_is_silent(kind):
    accumulate(kind, Reweighter(LAW, seed=SEED, logical_batch=16))
    accumulate(kind, Reweighter(LAW, seed=SEED), watch=True, learn=True)
    begun = Reweighter(LAW, seed=SEED)
    model, (x, y) = classifier(), batch()
    for _ in range(2):
        begun.begin(16)
        for _ in range(2):
            use(kind, begun, model(x), y).backward()


def test_a_watch_raises_instead(kind):
    with pytest.raises(ValueError, match="2 logical batches"):
        accumulate(kind, Reweighter(LAW, seed=SEED), watch=True)


def test_given_steps_are_silent(kind):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    for _ in range(2):
        losses = F.cross_entropy(model(x), y, reduction="none")
        (reweight.outputs(losses, step=0).mean() if kind == "outputs" else reweight(losses, step=0)).backward()


def test_a_gradient_that_is_not_finite_is_that_of_a_skipped_step(kind):
    """A GradScaler leaves such gradients to the next zero_grad, which may stand after the forward pass."""
    model, (x, y) = classifier(), batch()
    optimizer, reweight = torch.optim.SGD(model.parameters(), lr=0.1), Reweighter(LAW, seed=SEED)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for factor in (1, float("inf"), float("inf"), 1, 1):
        loss = use(kind, reweight, model(x), y) * factor
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0


def test_other_models_between_are_silent(kind):
    """As in a GAN: two networks in turn, each with its own step."""
    models = [classifier(), classifier()]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    (x, y), reweight = batch(), Reweighter(LAW, seed=SEED)
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            loss = use(kind, reweight, model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Tokens(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.embedding, self.head, self.flatten = nn.Embedding(11, 4), nn.Linear(4, 11), flatten

    def forward(self, ids):
        h = self.embedding(ids)
        return self.head(h.view(-1, 4)) if self.flatten == "hidden" else self.head(h).reshape(-1, 11)


@pytest.mark.parametrize("flatten", ["hidden", "logits"])
def test_tokens_that_look_like_examples_warn_once(kind, flatten):
    torch.manual_seed(0)
    model, ids = Tokens(flatten), torch.randint(11, (4, 6))
    reweight = Reweighter(LAW, seed=SEED)

    def twice():
        for _ in range(2):
            use(kind, reweight, model(ids), ids.flatten())

    found = warned(twice)
    assert len(found) == 1
    assert "24 examples that were flattened from shape (4, 6" in found[0][0]
    assert "tokens of 4 sequences, call reweight.outputs before the view" in found[0][0]
    assert found[0][1] == __file__


def test_what_is_no_sequence_of_tokens_is_silent(kind):
    torch.manual_seed(0)
    images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    use(kind, Reweighter(LAW, seed=SEED), images(torch.randn(8, 1, 4, 4)), batch()[1])
    tokens, ids = Tokens("none"), torch.randint(11, (4, 6))
    Reweighter(LAW, seed=SEED).outputs(tokens(ids).view(4, 6, 11))
    reweight = Reweighter(LAW, seed=SEED)  # or where the numbers of the examples are said
    reweight.outputs(tokens(ids), examples=torch.arange(4).repeat_interleave(6))
    assert reweight.step == 1
    assert _flattened_from(torch.ones(3)) is None


def test_losses_that_are_exactly_0_warn_once():
    model, (x, y) = classifier(), batch()
    y[2:5] = -100
    reweight = Reweighter(LAW, seed=SEED)

    def twice():
        for _ in range(2):
            use("losses", reweight, model(x), y)

    found = warned(twice)
    assert len(found) == 1
    assert found[0][0].startswith("3 of 8 losses are exactly 0, as those of ignored tokens")
    assert found[0][1] == __file__


def test_zeros_that_mean_nothing_are_silent():
    model, (x, y) = classifier(), batch()
    y[2] = -100
    F.cross_entropy(Reweighter(LAW, seed=SEED).outputs(model(x)), y)
    losses = F.cross_entropy(model(x), y, reduction="none")
    Reweighter(LAW, seed=SEED)(losses, sample_weight=(y >= 0).double())  # the weights say that they do not count
    Reweighter(LAW, seed=SEED)(losses * 0)  # all
    Reweighter(LAW, seed=SEED).outputs(losses)
    with torch.no_grad():
        Reweighter(LAW, seed=SEED)(losses)


def test_quiet():
    quiet = Suspicions(quiet=True)
    quiet.first_call(torch.tensor([0.0, 1.0]), losses=True)
    quiet.call(torch.ones(2, requires_grad=True), None, 0)
    loud = Suspicions()
    with pytest.warns(UserWarning, match="1 of 2 losses"):
        loud.first_call(torch.tensor([0.0, 1.0]), losses=True)


def test_outputs_whose_graph_leads_to_no_parameter_are_silent(kind):
    y = torch.rand(8, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        use(kind, Reweighter(LAW, seed=SEED), y, batch()[1]).backward()
    deep = y
    for _ in range(30):
        deep = deep.sin()
    reweight = Reweighter(LAW, seed=SEED)
    for _ in range(2):
        use(kind, reweight, deep, batch()[1])


def test_an_optimizer_step_in_the_middle_of_a_logical_batch():
    """As after an evaluation with gradients, or with a logical batch that is too large."""
    model, (x, y) = classifier(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(LAW, seed=SEED, logical_batch=2 * len(x))
    F.cross_entropy(reweight.outputs(model(x)), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.warns(UserWarning, match=f"after {len(x)} of {2 * len(x)} examples.*reweight.begin.*no_grad"):
        reweight.outputs(model(x))
    right = Reweighter(LAW, seed=SEED, logical_batch=2 * len(x))
    for _ in range(3):  # silent
        for _ in range(2):
            (F.cross_entropy(right.outputs(model(x)), y) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
