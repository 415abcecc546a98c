"""The gate and its linear twin: derivatives of both orders, values to the bit, and structures of outputs."""

from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msgd import Weights
from msgd.reweighting import weighted_outputs
from msgd.reweighting.gate import (
    carries_gradient,
    gate,
    gate_examples,
    gated_linear,
    gated_tensors,
    map_tensors,
    number_of_examples,
    refuse_backward,
    spread,
)

W = torch.tensor([0.0, 2.5, -1.0, 0.5], dtype=torch.float64)
SHAPES = [(W, (4,), 0), (W, (4, 3), 0), (W, (3, 4), 1), (W, (2, 3, 4), 2), (W.view(2, 2), (2, 2, 3), 0)]


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("w", "shape", "batch_dim"), SHAPES)
def test_the_gate_is_the_identity_whose_gradient_is_weighted(w, shape, batch_dim):
    y = random(*shape).requires_grad_()
    gated = gate(y, w, batch_dim=batch_dim)
    assert torch.equal(gated, y)
    seen = random(*shape)
    gated.backward(seen)
    each = w.view([1] * batch_dim + list(w.shape) + [1] * (y.ndim - batch_dim - w.ndim))
    assert torch.equal(y.grad, seen * each)


@pytest.mark.parametrize(("w", "shape", "batch_dim"), SHAPES)
def test_the_gradient_of_a_gradient_through_the_gate(w, shape, batch_dim):
    """∂y L = w·φ'(y), and the gate that it passes weights it once more: ∂²y L·v = w²·φ''(y)·v, with φ = y⁴."""
    y, v = random(*shape).requires_grad_(), random(*shape) + 3
    (first,) = torch.autograd.grad((gate(y, w, batch_dim=batch_dim) ** 4).sum(), y, create_graph=True)
    (second,) = torch.autograd.grad((first * v).sum(), y)
    each = w.view([1] * batch_dim + list(w.shape) + [1] * (y.ndim - batch_dim - w.ndim))
    torch.testing.assert_close(first, each * 4 * y**3, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(second, each**2 * 12 * y**2 * v, rtol=1e-12, atol=1e-14)


def test_both_derivatives_of_the_gate_by_differences():
    """gradcheck needs a function whose gradient is the true one, as the gate's is for w = 1, and its backward pass."""
    y = random(4, 3).requires_grad_()
    ones = torch.ones(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda y: gate(y, ones), y)
    assert torch.autograd.gradgradcheck(lambda y: gate(y, ones).sin(), y)
    assert not torch.autograd.gradcheck(lambda y: gate(y, W), y, raise_exception=False)  # that it can tell

    def backward(seen):  # linear in the gradient that comes in
        return torch.autograd.grad(gate(y, W), y, seen, create_graph=True)[0]

    assert torch.autograd.gradcheck(backward, random(4, 3).requires_grad_())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "w"), [((4, 5), W), ((4, 2, 5), W), ((2, 2, 5), W.view(2, 2)), ((4, 2, 3, 5), W)])
def test_the_gated_linear_layer_is_the_gate_behind_it_in_every_derivative(shape, w, bias):
    def leaves():
        c = random(7).requires_grad_() if bias else None
        return [random(*shape).requires_grad_(), random(7, 5).requires_grad_(), c]

    outcomes = []
    for f in (lambda h, V, c: gated_linear(h, V, c, w), lambda h, V, c: gate(F.linear(h, V, c), w)):
        inputs = leaves()
        kept = [leaf for leaf in inputs if leaf is not None]
        y = f(*inputs)
        first = torch.autograd.grad(y.sin().sum(), kept, create_graph=True)
        second = torch.autograd.grad(sum((g * g.cos()).sum() for g in first), kept)
        outcomes.append([y, *first, *second])
    for found, truth in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_both_derivatives_of_the_gated_linear_layer_by_differences(bias):
    ones = torch.ones(3, dtype=torch.float64)
    inputs = [random(3, 2, 4).requires_grad_(), random(5, 4).requires_grad_()] + [random(5).requires_grad_()] * bias

    def f(h, V, c=None):
        return gated_linear(h, V, c, ones).sin()

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)
    assert not torch.autograd.gradcheck(
        lambda h, V, c=None: gated_linear(h, V, c, W[:3]), inputs, raise_exception=False
    )

    def backward(seen):  # it is linear in the gradient of the outputs, also for weights that are not 1
        return torch.autograd.grad(gated_linear(*inputs[:2], None, W[1:]), inputs[:2], seen, create_graph=True)

    assert torch.autograd.gradcheck(backward, random(3, 2, 5).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(16, 8), (33, 64), (4, 7, 8), (2, 3, 5, 8)])
@pytest.mark.parametrize("outputs", [3, 37, 200])
def test_weights_of_1_are_the_plain_layer_to_the_bit(shape, outputs, dtype):
    for bias in (True, False):
        layer = nn.Linear(shape[-1], outputs, bias=bias, dtype=dtype)
        ones, found = torch.ones(shape[0]), []
        for f in (
            layer,
            lambda h, layer=layer, ones=ones: gate(layer(h), ones),
            lambda h, layer=layer, ones=ones: gated_linear(h, layer.weight, layer.bias, ones),
        ):
            layer.zero_grad()
            h = random(*shape, dtype=dtype).requires_grad_()
            y = f(h)
            y.float().square().mean().backward()
            found.append([y.detach(), h.grad, *(p.grad for p in layer.parameters())])
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    layer.zero_grad()
    gated_linear(random(*shape, dtype=dtype), layer.weight, None, ones * 2).float().square().mean().backward()
    assert not torch.equal(layer.weight.grad, found[0][2])  # the control


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
def test_autocast_treats_the_gated_linear_layer_as_the_plain_one(dtype, own):
    """Also float64, which it leaves alone; the gradients come back in the dtypes of the parameters."""
    layer, found = nn.Linear(8, 20, dtype=own), []
    w = torch.tensor([0.5, 2.0, 1.0, 0.0])
    for f in (lambda h: gate(layer(h), w), lambda h: gated_linear(h, layer.weight, layer.bias, w)):
        layer.zero_grad()
        h = random(4, 8, dtype=own).requires_grad_()
        with torch.autocast("cpu", dtype):
            y = f(h)
        y.double().square().mean().backward()
        found.append((y, h.grad, layer.weight.grad, layer.bias.grad))
    assert found[0][0].dtype == found[1][0].dtype == (own if own == torch.float64 else dtype)
    assert torch.equal(found[0][0], found[1][0])
    for mine, theirs in zip(found[1][1:], found[0][1:], strict=True):
        assert mine.dtype == own
        tolerance = 1e-12 if own == torch.float64 else 0.02
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def test_a_loss_may_change_the_gated_outputs_in_place():
    y, mask = random(4, 3).requires_grad_(), torch.tensor([False, True, False])
    outputs = gate(y * 1, W)
    outputs /= 2
    outputs[:, mask] = 0
    outputs.square().sum().backward()
    truth = W[:, None] * y / 2 * ~mask
    torch.testing.assert_close(y.grad, truth.detach(), rtol=1e-12, atol=1e-14)


def test_what_a_function_needs_for_its_own_gradient_is_not_changed_in_silence():
    y = random(4, 3).requires_grad_().exp()  # whose gradient is computed from its value
    gate(y, W).div_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_complex_outputs_are_weighted_too():
    y = random(4, 3).requires_grad_()
    gate_examples(torch.fft.fft(y), W, None).abs().square().sum().backward()
    truth = torch.autograd.grad((W[:, None] * torch.fft.fft(y).abs().square()).sum(), y)[0]
    torch.testing.assert_close(y.grad, truth, rtol=1e-12, atol=1e-12)


def test_weighted_outputs_with_weights_of_your_own():
    y = random(3, 2).requires_grad_()
    weights = Weights(torch.tensor([1, 4, 6]), torch.tensor([2.0, 6.0, 1.0]), n=8)
    weighted_outputs({"logits": y, "mask": None}, weights)["logits"].square().mean().backward()
    truth = weights.value.double()[:, None] / 8 * 2 * y.detach() / 2  # 1/n·Σ value_i ∇ℓ_i, ℓ_i a mean over 2 columns
    torch.testing.assert_close(y.grad, truth, rtol=1e-12, atol=1e-14)
    turned = random(2, 3).requires_grad_()
    weighted_outputs(turned, weights, batch_dim=1).sum().backward()
    torch.testing.assert_close(turned.grad, (weights.value.double() * 3 / 8).expand(2, 3))
    for batch_dim in (1, 2, -2):
        with pytest.raises(ValueError, match="for 3 weights: pass the outputs of these examples"):
            weighted_outputs(y, weights, batch_dim=batch_dim)


Pair = namedtuple("Pair", ["first", "second"])


def test_structures_keep_their_kind_and_what_else_is_in_them():
    y, ids = random(4, 3).requires_grad_(), torch.arange(4)
    for outputs in ((y, None), [y, 3], {"y": y, "ids": ids}, Pair(y, {"deep": [y, "text"]})):
        mapped = map_tensors(lambda t: gate_examples(t, W, None), outputs)
        assert type(mapped) is type(outputs)
        assert torch.equal(next(iter(gated_tensors(mapped))), y)
    assert gated_tensors((y, ids, y.detach(), None)) == [y]
    assert gate_examples(ids, W, None) is ids
    with torch.no_grad():
        assert gated_tensors(y) == []
        assert not carries_gradient(y)
        assert gate_examples(y, W, None) is y


@pytest.mark.parametrize("nothing", [3.0, None, [], {"a": "text"}])
def test_outputs_without_a_tensor_are_refused(nothing):
    with pytest.raises(TypeError, match=r"call reweight.outputs on the tensors that the loss depends on"):
        gated_tensors(nothing)


def test_the_number_of_examples():
    assert number_of_examples([random(4, 3), random(4)], 0) == 4
    assert number_of_examples([random(4, 3), random(5, 3, 2)], 1) == 3
    with pytest.raises(ValueError, match=r"have 4 and 5 examples in dimension 0"):
        number_of_examples([random(4), random(5)], 0)
    with pytest.raises(ValueError, match=r"it looks like a loss; weight the outputs that it is computed from"):
        number_of_examples([random()], 0)
    for batch_dim in (1, -1):  # a negative one would weight nothing that anybody could want
        with pytest.raises(ValueError, match=f"has no dimension {batch_dim} of examples$"):
            number_of_examples([random(4)], batch_dim)


def test_each_token_has_the_weight_of_its_example():
    at = torch.tensor([[0, 0, 1], [2, 3, -1]])
    assert spread(W, at, random(2, 3, 5)).tolist() == [[0.0, 0.0, 2.5], [-1.0, 0.5, 1.0]]
    assert spread(W, at, random(2, 2, 5)).tolist() == [[0.0, 0.0], [-1.0, 0.5]]  # no outputs for the last token
    assert spread(W, torch.tensor([3, 3, 1]), random(3)).tolist() == [0.5, 0.5, 2.5]
    for shape in ((2, 4, 5), (2,), (3, 3), (6, 5)):
        with pytest.raises(ValueError, match="give it the shape of the first dimensions of the outputs"):
            spread(W, at, random(*shape))
    y = random(2, 3).requires_grad_()
    with pytest.raises(ValueError, match="leave batch_dim= out"):
        gate_examples(y, W, at, 1)


def test_a_loss_whose_backward_pass_is_refused():
    loss = random(4).requires_grad_().sum()
    refused = refuse_backward(loss, "use the other loss")
    assert torch.equal(refused, loss)
    with pytest.raises(ValueError, match="use the other loss"):
        (2 * refused).backward()
    again = refuse_backward(random(4).requires_grad_().sum(), "use the other loss")
    again /= 2  # as a Trainer does for accumulation
    with pytest.raises(ValueError, match="use the other loss"):
        again.backward()
