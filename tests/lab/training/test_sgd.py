"""The training loop: its step against autograd by hand, sparse steps, evaluation, and bitwise resumption."""

import pytest
import torch
from torch.nn import functional as F

from msgd.lab.networks.build import build_network
from msgd.lab.recipes.bounds import LARGEST_RATE
from msgd.lab.tasks.losses import cross_entropy
from msgd.lab.training.sgd import Trainer, evaluate, select_examples
from msgd.noise import Bernoulli, Cov, Fisher, FullBatch, MiniBatch, Poisson, Subsampled
from reference import flat_gradient, gradient_matrix


@pytest.mark.parametrize("n", [0, 50, 500])  # few and many are computed in different layouts
def test_losses_are_the_cross_entropy(n):
    z = torch.randn(n, 10, dtype=torch.float64, requires_grad=True)
    y = torch.randint(10, (n,))
    w = torch.randn(n, dtype=torch.float64)
    mine = torch.autograd.grad((cross_entropy(z, y) * w).sum(), z)[0]
    theirs = torch.autograd.grad((F.cross_entropy(z, y, reduction="none") * w).sum(), z)[0]
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(cross_entropy(z, y), F.cross_entropy(z, y, reduction="none"), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("law", [FullBatch(), MiniBatch(8), Cov(8), Bernoulli(8), Poisson(8)], ids=repr)
def test_steps_against_the_formula(law):
    """θ ← θ − η·v, v ← μ·v + G·w/n + λ·θ, with G column by column, in float64."""
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(10, (40,))
    model, twin = (build_network("mlp", input_shape=(6,), classes=10, seed=1).double() for _ in range(2))
    trainer = Trainer(model, lr=0.1, momentum=0.9, weight_decay=0.01)
    velocity = 0.0
    for step in range(4):
        weights = law.draw(40, seed=0, step=step)
        trainer.step(x, y, weights)
        gradient = gradient_matrix(twin, cross_entropy, x, y) @ weights.dense().double() / 40
        with torch.no_grad():
            theta = torch.nn.utils.parameters_to_vector(twin.parameters())
            velocity = 0.9 * velocity + gradient + 0.01 * theta
            torch.nn.utils.vector_to_parameters(theta - 0.1 * velocity, twin.parameters())
        now = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        torch.testing.assert_close(now, theta - 0.1 * velocity, rtol=1e-11, atol=1e-13)
    assert flat_gradient(model).abs().max() == 0  # nothing is left on the parameters


def test_the_largest_rate_and_decay_of_a_recipe_are_numbers_of_float32():
    model = torch.nn.Linear(6, 10)
    trainer = Trainer(model, lr=LARGEST_RATE, momentum=0.9, weight_decay=LARGEST_RATE)
    for _ in range(3):
        trainer.update(tuple(torch.ones_like(parameter) for parameter in model.parameters()))
    assert not model.weight.isfinite().any()


def test_examples_of_weight_zero_are_never_computed():
    seen = []
    model = torch.nn.Linear(6, 10)
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x, y = torch.randn(40, 6), torch.randint(10, (40,))
    for law, number in ((MiniBatch(8), 8), (FullBatch(), 40), (Subsampled(20, Fisher(4)), 20)):
        Trainer(model, 0.1).step(x, y, law.draw(40, seed=0, step=0))
        assert seen.pop() == number


def test_an_empty_draw_is_a_step_of_the_momentum():
    step = next(t for t in range(100) if len(Bernoulli(1).draw(40, seed=0, step=t).value) == 0)
    model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=1)
    trainer = Trainer(model, lr=0.1, momentum=0.5)
    x, y = torch.rand(40, 1, 28, 28), torch.randint(10, (40,))
    trainer.step(x, y, FullBatch().draw(40, seed=0, step=0))
    before = [p.detach().clone() for p in model.parameters()]
    momenta = [m.clone() for m in trainer.momenta]
    trainer.step(x, y, Bernoulli(1).draw(40, seed=0, step=step))
    for p, b, m in zip(model.parameters(), before, momenta, strict=True):
        torch.testing.assert_close(p.detach(), b - 0.1 * 0.5 * m)


def test_evaluation_is_over_everything_in_eval_mode():
    model = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Linear(4, 10)).double()
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(10, (30,))
    values = evaluate(model, x, y, chunk=7)
    logits = model[1](x)
    assert values["accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item(), rel=1e-12)
    assert values["loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-12)
    assert model.training


def test_chosen_examples_keep_their_layout() -> None:
    images = torch.randn(9, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    index = torch.tensor([1, 5, 8])
    taken = select_examples(images, index)
    assert torch.equal(taken, images[index])
    assert taken.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(select_examples(images[:, 0, 0], index), images[index, 0, 0])
