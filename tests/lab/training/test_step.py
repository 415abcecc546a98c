"""What a recipe may ask of a step: micro-batches, falling rates, crops, noise in parameter space, penalties."""

import math

import pytest
import torch

from helpers.small import SMALL
from helpers.training import contents, go, make, no_checkpoint, same
from msgd.lab.data.augment import crop_and_flip
from msgd.lab.data.device import on_device
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError
from msgd.lab.networks.build import build_network
from msgd.lab.optimizers.optimizer import optimizer_of
from msgd.lab.optimizers.schedule import schedule_of
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.tasks.losses import cross_entropy
from msgd.lab.training.sgd import Trainer
from msgd.langevin import SGLD, FullBatchPenalty, GLDDiag, MiniBatchPenalty
from msgd.noise import Bernoulli, Cov, FullBatch, MiniBatch, generator


@pytest.mark.parametrize("law", [FullBatch(), Cov(8), MiniBatch(8), Bernoulli(8), Bernoulli(1)], ids=repr)
@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_micro_batches_add_up_to_the_gradient(law, size):
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(10, (40,))
    model = build_network("mlp", input_shape=(6,), classes=10, seed=1).double()
    for step in range(3):
        weights = law.draw(40, seed=0, step=step)
        whole = Trainer(model, 0.1).gradient(x, y, weights)
        parts = Trainer(model, 0.1, micro_batch=size).gradient(x, y, weights)
        for mine, theirs in zip(parts, whole, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15)


def by_hand(run, data, step_of):
    """The parameters after the run's steps, each taken by a function of (trainer, step, x, y)."""
    model = build_network(run.model, input_shape=data.input_shape, classes=10, seed=run.init_seed)
    trainer = Trainer(model, run.lr, run.momentum, run.weight_decay)
    x, y = on_device(data.train_inputs, data.train_targets, torch.device("cpu"), run.pixels)
    for step in range(run.steps):
        step_of(trainer, step, x, y)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(run, folder):
    tensors = contents(folder)[1]
    model = build_network(run.model, input_shape=(1, 28, 28), classes=10, seed=0)
    return torch.cat([tensors[f"model.{name}"].flatten() for name, _ in model.named_parameters()])


def test_the_rate_falls_where_it_is_told_to(data, tmp_path):
    run = make(steps=12, lr_drops=(5, 9), lr_drop=0.5)
    go(run, data, tmp_path)

    def step_of(trainer, step, x, y):
        trainer.lr = 0.05 if step < 5 else 0.025 if step < 9 else 0.0125
        trainer.step(x, y, run.law.draw(40, seed=3, step=step, stream=run.stream))

    assert torch.equal(trained(run, tmp_path), by_hand(run, data, step_of))


def test_raw_pixels_and_crops_reach_the_step(data, tmp_path):
    run = make(steps=6, lr=1e-4, pixels="raw", augment=2)
    go(run, data, tmp_path)

    def step_of(trainer, step, x, y):
        weights = run.law.draw(40, seed=3, step=step, stream=run.stream)
        images = crop_and_flip(x[weights.index], 2, generator(3, step, run.crops))
        assert x.max() > 200
        dense = type(weights)(None, weights.value, weights.n)
        trainer.update(trainer.gradient(images, y[weights.index], dense))

    assert torch.equal(trained(run, tmp_path), by_hand(run, data, step_of))


def test_noise_in_parameter_space_is_added_to_the_gradient(data, tmp_path):
    noise = GLDDiag(8, refresh=4)
    run = make(FullBatch(), steps=6, noise=noise)
    go(run, data, tmp_path)
    states = {}

    def step_of(trainer, step, x, y):
        if step in (0, 4):
            states["now"] = noise.measure(trainer.model, cross_entropy, x, y)
        gradient = trainer.gradient(x, y, FullBatch().draw(40, seed=0, step=0))
        added = noise.sample(states["now"], trainer.parameters, seed=3, step=step, stream=run.stream)
        trainer.update(tuple(g + a for g, a in zip(gradient, added, strict=True)))

    torch.testing.assert_close(trained(run, tmp_path), by_hand(run, data, step_of), rtol=1e-6, atol=1e-7)


def test_sgld_follows_the_rate(data, tmp_path):
    run = make(steps=4, lr_drops=(2,), noise=SGLD(1e-4, lr=0.05), momentum=0.0, weight_decay=0.0)
    go(run, data, tmp_path)

    def step_of(trainer, step, x, y):
        trainer.lr = run.lr_at(step)
        gradient = trainer.gradient(x, y, run.law.draw(40, seed=3, step=step, stream=run.stream))
        added = SGLD(1e-4, lr=trainer.lr).sample({}, trainer.parameters, seed=3, step=step, stream=run.stream)
        trainer.update(tuple(g + a for g, a in zip(gradient, added, strict=True)))

    torch.testing.assert_close(trained(run, tmp_path), by_hand(run, data, step_of), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("penalty", [MiniBatchPenalty(0.1, 8), FullBatchPenalty(0.1)], ids=repr)
def test_a_penalty_stands_in_the_noises_place(data, tmp_path, penalty):
    run = make(FullBatch(), steps=3, penalty=penalty)
    go(run, data, tmp_path)

    def step_of(trainer, step, x, y):
        trainer.update(penalty.gradient(trainer.model, cross_entropy, x, y, seed=3, step=step, stream=run.stream))

    assert torch.equal(trained(run, tmp_path), by_hand(run, data, step_of))


def test_what_was_measured_survives_a_stop_between_measurements(data, tmp_path):
    run = make(FullBatch(), noise=GLDDiag(8, refresh=12))  # saved at 10 and 20, measured at 0, 12 and 24
    go(run, data, tmp_path / "whole")
    go(run, data, tmp_path / "stopped", go_on=no_checkpoint(tmp_path / "stopped"))
    assert contents(tmp_path / "stopped")[0] == 10
    go(run, data, tmp_path / "stopped")
    assert same(contents(tmp_path / "stopped"), contents(tmp_path / "whole"))


def test_a_fault_that_training_shows_is_one_clear_line(data, tmp_path):
    with pytest.raises(UserError, match=r"methods.m: a batch of b = 41 needs more than 40 examples"):
        go(make(FullBatch(), penalty=MiniBatchPenalty(0.1, 41)), data, tmp_path)


def method(text):
    recipe = parse_recipe(SMALL + f"[methods.other]\n{text}\n", source="small")
    return next(run for run in resolve(recipe, n=40, digests=["d"]) if run.method == "other")


def test_methods_may_have_noise_or_a_penalty():
    run = method('law = "full-batch"\nnoise = {kind = "gld-diag", refresh = 5}')
    assert run.noise == GLDDiag(8, refresh=5)  # b is the recipe's
    assert run.identity()["noise"] == "GLDDiag(b=8, refresh=5)"
    assert method('law = "mini-batch"\nlr = 0.2\nnoise = {kind = "sgld", temperature = 0.1}').noise == SGLD(0.1, lr=0.2)
    assert method('law = "full-batch"\npenalty = {kind = "mini-batch-penalty", strength = 0.1}').penalty == (
        MiniBatchPenalty(0.1, 8)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'noise = {kind = "gld-diag"}\nlaw = "mini-batch"',
            r'noise: gld-diag replaces SGD\'s noise; give .*"full-batch"',
        ),
        ('noise = {kind = "pink"}\nlaw = "full-batch"', "noise.kind: 'pink' is not a noise; there are gld-const"),
        ('noise = {kind = "sgld"}\nlaw = "full-batch"', "the noise sgld needs temperature"),
        ('noise = {kind = "gld-diag", refresh = 0}\nlaw = "full-batch"', "refresh must be at least 1"),
        (
            'penalty = {kind = "mini-batch-penalty"}\nlaw = "full-batch"',
            "the penalty mini-batch-penalty needs strength",
        ),
        ('penalty = {kind = "full-batch-penalty", strength = 1}\nlaw = "cov"', "a penalty replaces the noise"),
    ],
)
def test_what_a_method_cannot_have(text, message):
    with pytest.raises(UserError, match=message):
        method(text)


def test_micro_batches_keep_the_groups_of_batch_norm():
    deep = {"model": "resnet18", "micro_batch": 10}
    for changes in ({}, {"ghost": 4}):
        with pytest.raises(UserError, match="micro_batch: it would change the groups of batch norm"):
            parse_recipe(SMALL, source="small", settings=deep | changes)
    parse_recipe(SMALL, source="small", settings=deep | {"ghost": 5})
    parse_recipe(SMALL, source="small", settings=deep | {"norm": "group"})


def test_generated_data_are_drawn_anew_by_seed():
    zero, again, one = (load_data("mnist1d", n=50, seed=seed) for seed in (0, 0, 1))
    assert zero.digest() == again.digest() != one.digest()


def test_clipping_sam_and_adamw_are_those_of_a_plain_loop(data, tmp_path):
    """A twin with autograd, `clip_grad_norm_` and torch's AdamW, on the same draws."""
    optimizer = optimizer_of(
        {"kind": "AdamW", "weight_decay": 0.1, "eps": 0.01}, where="it"
    )  # smooth: rounding stays small
    schedule = schedule_of({"kind": "cosine", "warmup": 3}, where="it")
    changes = {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.01, "label_smoothing": 0.1}
    run = make(steps=12, **changes, optimizer=optimizer, schedule=schedule, clip=0.5, sam=0.1)
    go(run, data, tmp_path)
    model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=3)
    adamw = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1, eps=0.01)
    x, y = on_device(data.train_inputs, data.train_targets, torch.device("cpu"))

    def gradient(weights):
        losses = torch.nn.functional.cross_entropy(model(x), y, reduction="none", label_smoothing=0.1)
        return torch.autograd.grad((weights.dense() * losses).mean(), list(model.parameters()))

    for step in range(12):
        weights = run.law.draw(40, seed=3, step=step, stream=run.stream)
        saved = [p.detach().clone() for p in model.parameters()]
        uphill = gradient(weights)
        norm = torch.cat([g.flatten() for g in uphill]).norm()
        with torch.no_grad():
            for p, g in zip(model.parameters(), uphill, strict=True):
                p.add_(0.1 * g / norm)
        at_the_top = gradient(weights)
        with torch.no_grad():
            for p, s, g in zip(model.parameters(), saved, at_the_top, strict=True):
                p.copy_(s)
                p.grad = g
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        t = step - 3
        factor = (step + 1) / 3 if step < 3 else (1 + math.cos(math.pi * t / 9)) / 2
        adamw.param_groups[0]["lr"] = 0.01 * factor
        adamw.step()
    mine = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(trained(run, tmp_path), mine, rtol=1e-3, atol=2e-5)
