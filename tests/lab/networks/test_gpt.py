"""The GPT against a slow forward pass, what a position sees, its initialisation, and its derivatives."""

import math

import pytest
import torch
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

from msgd.gradients import Covariance, GradientMatrix
from msgd.lab.errors import UserError
from msgd.lab.networks.build import build_network
from reference import gradient_matrix

T, CLASSES = 8, 7
WIDTH, HEADS, LAYERS = 64, 2, 2


def losses(logits, targets):
    """Mean cross-entropy over the positions of each example."""
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


def network(*, spread=0.0):
    """A network in float64, away from its initialisation by noise of this standard deviation."""
    model = build_network("gpt", input_shape=(T,), classes=CLASSES, seed=1).double()
    torch.manual_seed(2)
    for p in model.parameters():
        p.data.add_(spread * torch.randn_like(p))
    return model


def text(n):
    codes = torch.randint(CLASSES, (n, T + 1), generator=torch.Generator().manual_seed(n))
    return codes[:, :-1], codes[:, 1:]


def normalise(x, weight, bias):
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return (x - mean) / (variance + 1e-5) ** 0.5 * weight + bias


def slow_forward(theta, codes):
    """Logits of one sequence: one position after the other, from vectors of features, with one sum per head."""
    x = [theta["characters.weight"][code] + theta["positions"][t] for t, code in enumerate(codes.tolist())]
    size = WIDTH // HEADS
    for layer in range(LAYERS):

        def of(name, layer=layer):
            return theta[f"blocks.{layer}.{name}.weight"], theta[f"blocks.{layer}.{name}.bias"]

        W, b = of("attention.1.joint")
        joint = [W @ normalise(each, *of("attention.0")) + b for each in x]
        W, b = of("attention.1.projection")
        for t in range(len(x)):
            heads = []
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                query = joint[t][:WIDTH][part]
                shares = [math.exp(query @ joint[s][WIDTH : 2 * WIDTH][part] / math.sqrt(size)) for s in range(t + 1)]
                values = [joint[s][2 * WIDTH :][part] for s in range(t + 1)]
                heads.append(sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares))
            x[t] = x[t] + W @ torch.cat(heads) + b
        for t, each in enumerate(x):
            W, b = of("perceptron.1")
            z = W @ normalise(each, *of("perceptron.0")) + b
            W, b = of("perceptron.3")
            x[t] = each + W @ (z * (1 + torch.erf(z / math.sqrt(2))) / 2) + b
    last = theta["head.0.weight"], theta["head.0.bias"]
    return torch.stack([theta["head.1.weight"] @ normalise(each, *last) for each in x])


def test_the_forward_pass_is_that_of_a_slow_twin():
    model = network(spread=0.2)
    codes, _ = text(3)
    expected = torch.stack([slow_forward(model.state_dict(), row) for row in codes])
    with torch.no_grad():
        torch.testing.assert_close(model(codes), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_position_sees_no_later_character():
    model = network(spread=0.2)
    codes, _ = text(1)
    before = model(codes)[0]
    for t in range(T):
        changed = codes.clone()
        changed[0, t] = (codes[0, t] + 1) % CLASSES
        after = model(changed)[0]
        assert torch.equal(after[:t], before[:t])
        assert (after[t:] - before[t:]).abs().amax(1).min() > 1e-3  # every position from t on sees it


@pytest.mark.parametrize(("length", "classes", "number"), [(64, 65, 112_512), (8, 7, None)])
def test_the_number_of_parameters(length, classes, number):
    model = build_network("gpt", input_shape=(length,), classes=classes, seed=0)
    matrices, biases, norms = 12 * WIDTH**2, 9 * WIDTH, 4 * WIDTH
    expected = LAYERS * (matrices + biases + norms) + 2 * WIDTH + (2 * classes + length) * WIDTH
    assert sum(p.numel() for p in model.parameters()) == expected
    assert number in (expected, None)
    assert {id(p) for p in model.state_dict(keep_vars=True).values()} == {id(p) for p in model.parameters()}  # no mask


def test_the_initialisation_is_that_of_gpt_2():
    model = build_network("gpt", input_shape=(64,), classes=65, seed=0)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all()
        elif p.ndim == 1:
            assert (p == 1).all()
        else:
            expected = 0.01 if name.endswith(("projection.weight", "perceptron.3.weight")) else 0.02  # 0.02/√(2·2)
            assert abs(p.mean().item()) < 5 * expected / math.sqrt(p.numel())
            assert p.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * p.numel()))
    codes = torch.randint(65, (8, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = losses(model(codes[:, :-1]), codes[:, 1:]).mean().item()
    # The features have norm √64, so a logit has the variance 64·0.02²; half of it adds to the loss of equal logits.
    assert loss == pytest.approx(math.log(65) + 64 * 0.02**2 / 2, abs=0.03)


def test_gradients_of_single_examples_and_their_covariance():
    model = network(spread=0.05)
    x, y = text(4)
    G = GradientMatrix(model, losses, x, y)
    twin = gradient_matrix(model, losses, x, y)
    assert (twin.abs().sum(0) > 0).all()
    torch.testing.assert_close(G.to_dense(), twin, rtol=1e-8, atol=1e-10)

    def loss(theta, x, y):
        return losses(functional_call(model, theta, (x[None],)), y[None])[0]

    theta = {name: p.detach() for name, p in model.named_parameters()}
    columns = vmap(grad(loss), in_dims=(None, 0, 0))(theta, x, y)  # without the fallbacks of G
    torch.testing.assert_close(torch.cat([g.flatten(1) for g in columns.values()], 1).T, twin, rtol=1e-8, atol=1e-10)
    rng = torch.Generator().manual_seed(3)
    u, w = (torch.randn(size, generator=rng, dtype=torch.float64) for size in (len(twin), 4))
    torch.testing.assert_close(G @ w, twin @ w, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(G.T @ u, twin.T @ u, rtol=1e-8, atol=1e-10)
    centred = twin - twin.mean(1, keepdim=True)
    C = Covariance(G)
    torch.testing.assert_close(C @ u, centred @ (centred.T @ u) / 4, rtol=1e-8, atol=1e-10)
    assert C.trace() == pytest.approx((centred**2).sum().item() / 4, rel=1e-8)


def test_products_with_the_hessian():
    model = network(spread=0.05)
    x, y = text(4)
    G = GradientMatrix(model, losses, x, y)
    v = torch.randn(G.shape[0], generator=torch.Generator().manual_seed(4), dtype=torch.float64) / G.shape[0] ** 0.5
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def gradient(step):
        torch.nn.utils.vector_to_parameters(start + step * v, model.parameters())
        return gradient_matrix(model, losses, x, y).mean(1)

    differences = (gradient(1e-4) - gradient(-1e-4)) / 2e-4
    gradient(0)
    product = G.hessian_product(v)
    torch.testing.assert_close(product, differences, rtol=1e-5, atol=1e-6 * differences.abs().max().item())

    # Forward over reverse, which fused attention would refuse.
    theta = {name: p.detach() for name, p in model.named_parameters()}
    parts = torch.split(v, [p.numel() for p in theta.values()])
    along = {name: part.view_as(p) for (name, p), part in zip(theta.items(), parts, strict=True)}
    forward = jvp(grad(lambda theta: losses(functional_call(model, theta, (x,)), y).mean()), (theta,), (along,))[1]
    torch.testing.assert_close(torch.cat([h.flatten() for h in forward.values()]), product, rtol=1e-8, atol=1e-10)


def test_an_empty_draw_has_a_zero_gradient():
    model = network()
    logits = model(torch.zeros(0, T, dtype=torch.int64))
    assert logits.shape == (0, T, CLASSES)
    assert all((g == 0).all() for g in torch.autograd.grad(logits.sum(), list(model.parameters())))


def test_what_is_no_sequence_of_integers_is_refused():
    with pytest.raises(
        UserError, match=r"gpt takes sequences of integers, of shape \(T,\), not \(1, 28, 28\); use mlp"
    ):
        build_network("gpt", input_shape=(1, 28, 28), classes=10, seed=0)
    with pytest.raises(UserError, match=r"gpt takes sequences of integers, not of torch.float32; use mlp"):
        network()(torch.zeros(2, T))
