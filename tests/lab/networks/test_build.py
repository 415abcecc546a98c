"""Networks: published sizes, initial parameters that belong to the seed, layout, and one gradient for each example."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from msgd.lab.errors import UserError
from msgd.lab.networks.build import MODELS, build_network
from msgd.lab.networks.resnet import Block
from reference import gradient_matrix

COLOUR = (3, 32, 32)
SHAPES = {"mlp": (1, 28, 28), "conv-small": (1, 28, 28), "vgg11": COLOUR, "resnet18": COLOUR, "gpt": (64,)}
DEEP = [("vgg11", {}), *(("resnet18", {"norm": norm}) for norm in ("none", "group", "batch"))]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def pictures(n, shape=COLOUR):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))
    return x.contiguous(memory_format=torch.channels_last)


def outputs(model, x, kinds):
    """What the layers of these kinds return, in order."""
    seen = []
    handles = [
        module.register_forward_hook(lambda _, args, output: seen.append(output.detach().clone()))  # noqa: ARG005
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def test_sizes():
    conv = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    assert parameters(conv) == 11_330
    mlp = build_network("mlp", input_shape=(40,), classes=10, seed=0)
    assert [tuple(p.shape) for p in mlp.parameters() if p.ndim == 2] == [(100, 40), (100, 100), (10, 100)]
    assert conv(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert conv(torch.rand(0, 1, 28, 28)).shape == (0, 10)  # an empty draw


@pytest.mark.parametrize(
    ("name", "options", "classes", "number"),
    [
        ("vgg11", {}, 10, 9_750_922),
        ("resnet18", {}, 10, 11_173_962),  # with BatchNorm, as published
        ("resnet18", {"norm": "batch", "ghost": 32}, 100, 11_220_132),
        ("resnet18", {"norm": "group"}, 10, 11_173_962),
        ("resnet18", {"norm": "none"}, 10, 11_173_962 - 4800),  # a bias for each of 4800 channels, no scale
    ],
)
def test_sizes_of_the_deep_networks(name, options, classes, number):
    model = build_network(name, input_shape=COLOUR, classes=classes, seed=0, **options)
    assert parameters(model) == number
    assert model(pictures(2)).shape == (2, classes)
    empty = model(pictures(0))  # an empty draw reaches every parameter, with a zero gradient
    assert empty.shape == (0, classes)
    assert all(g.abs().max() == 0 for g in torch.autograd.grad(empty.sum(), list(model.parameters())))


def test_resnet18_has_stages_of_halved_images():
    model = build_network("resnet18", input_shape=COLOUR, classes=10, seed=0)
    sizes = [(64, 32, 32)] * 2 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2
    assert [tuple(y.shape[1:]) for y in outputs(model, pictures(2), Block)] == sizes


@pytest.mark.parametrize("name", ["conv-small", "vgg11", "resnet18"])
def test_convolutions_are_channels_last(name):
    model = build_network(name, input_shape=SHAPES[name], classes=10, seed=0)
    second = [module for module in model.modules() if isinstance(module, nn.Conv2d)][1].weight
    assert second.is_contiguous(memory_format=torch.channels_last)
    assert not second.is_contiguous()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "options"), [*DEEP, ("resnet18", {"ghost": 2})])
def test_the_whole_network_stays_channels_last(name, options, channels):
    shape = (channels, 32, 32)
    model = build_network(name, input_shape=shape, classes=10, seed=0, **options)
    kinds = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.GroupNorm, nn.BatchNorm2d, Block)
    images = [y for y in outputs(model, pictures(4, shape), kinds) if y.ndim == 4 and y.shape[2] > 1]
    assert len(images) >= 16
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in images)


@pytest.mark.parametrize("name", MODELS)
def test_the_initialisation_belongs_to_the_seed(name):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (
        list(build_network(name, input_shape=SHAPES[name], classes=10, seed=s).parameters()) for s in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)  # the user's generator is left alone
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    # biases, and the parameters of BatchNorm and LayerNorm
    constant = {"mlp": 0, "conv-small": 0, "vgg11": 11, "resnet18": 41, "gpt": 18}[name]
    assert sum(torch.equal(a, b) for a, b in zip(first, other, strict=True)) == constant


def test_the_signal_of_vgg11_neither_vanishes_nor_explodes():
    model = build_network("vgg11", input_shape=COLOUR, classes=10, seed=0)
    x = pictures(16)

    def moments():
        return [y.square().mean().item() for y in outputs(model, x, (nn.Conv2d, nn.Linear))]

    assert len(moments()) == 11
    assert all(2 / 8 < m < 2 * 8 for m in moments())  # 2 but for padding, which lowers it, and max-pooling
    torch.manual_seed(0)
    for module in model.modules():  # the control: torch's own initialisation has Var(W) = 1/(3·fan_in)
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    assert moments()[-1] < 0.01


def test_resnet18_without_norm_starts_as_the_identity_and_learns():
    model = build_network("resnet18", input_shape=COLOUR, classes=10, seed=0, norm="none")
    x, y = pictures(4), torch.tensor([1, 2, 3, 4])
    features = pictures(2, (64, 8, 8)).relu()
    assert torch.equal(model[3](features), features)
    means = [z.square().mean().item() for z in outputs(model, x, Block)]
    assert all(1 / 2 < m < 2 for m in means)  # E x² = 1 passes through
    first = model[3].branch[0].weight
    assert first.square().mean().item() * 9 * 64 * 8 == pytest.approx(2, rel=5 * math.sqrt(2 / first.numel()))
    losses = []
    for _ in range(2):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            torch._foreach_add_(list(model.parameters()), gradients, alpha=-0.1)
    assert losses[0] > losses[1]
    assert all(g.abs().max() > 0 for g in gradients)  # from the second step on every parameter learns


@pytest.mark.parametrize(("name", "options"), DEEP)
def test_a_gradient_for_each_example(name, options):
    """functional_call and vmap against one backward pass for each example, BatchNorm in eval mode."""
    shape = COLOUR if name == "vgg11" else (3, 16, 16)  # a residual network takes any size; this one is faster
    model = build_network(name, input_shape=COLOUR, classes=10, seed=0, **options)
    model.train(options.get("norm") != "batch")
    torch.manual_seed(0)
    for p in model.parameters():  # away from the zeros of the initialisation
        p.data.add_(0.01 * torch.randn_like(p))
    x, y = pictures(2, shape), torch.tensor([3, 8])

    def loss(theta, x, y):
        return F.cross_entropy(functional_call(model, theta, (x[None],)), y[None])

    theta = {name: p.detach() for name, p in model.named_parameters()}
    columns = vmap(grad(loss), in_dims=(None, 0, 0))(theta, x, y)
    G = torch.cat([g.flatten(1) for g in columns.values()], dim=1).T
    twin = gradient_matrix(model, lambda z, y: F.cross_entropy(z, y, reduction="none"), x, y)
    assert (twin.abs().sum(0) > 0).all()
    torch.testing.assert_close(G, twin, rtol=0, atol=1e-4 * twin.abs().max().item())


def test_wrong_inputs_are_refused():
    with pytest.raises(UserError, match="use mlp"):
        build_network("conv-small", input_shape=(40,), classes=10, seed=0)
    for name in ("vgg11", "resnet18"):
        for shape in ((40,), (1, 28, 28), (4, 32, 32)):
            with pytest.raises(UserError, match=rf"{name} takes images of shape \(1, 32, 32\) or \(3, 32, 32\)"):
                build_network(name, input_shape=shape, classes=10, seed=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"norm": "batch"}, "norm: mlp has no normalisation; leave norm out, or use resnet18"),
        ("mlp", {"ghost": 4}, "ghost: mlp has no normalisation"),
        ("vgg11", {"norm": "none"}, "norm: vgg11 has no normalisation"),
        ("resnet18", {"norm": "layer"}, "norm: 'layer' is not known; there are none, group, batch"),
        ("resnet18", {"norm": "group", "ghost": 4}, 'the norm "group" has no groups of examples; .* norm = "batch"'),
        ("resnet18", {"norm": "batch", "ghost": 1}, "ghost: a group has at least 2 examples, not 1"),
    ],
)
def test_a_norm_that_cannot_be_had_is_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        build_network(name, input_shape=SHAPES[name], classes=10, seed=0, **options)
