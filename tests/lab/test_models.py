"""Networks: published sizes, and initial parameters that belong to the seed."""

import pytest
import torch

from msgd.errors import UserError
from msgd.lab.models import MODELS, build


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_sizes():
    conv = build("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    assert parameters(conv) == 11_330
    mlp = build("mlp", input_shape=(40,), classes=10, seed=0)
    assert [tuple(p.shape) for p in mlp.parameters() if p.ndim == 2] == [(100, 40), (100, 100), (10, 100)]
    assert conv(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert conv(torch.rand(0, 1, 28, 28)).shape == (0, 10)  # an empty draw


def test_convolutions_are_channels_last():
    conv = build("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    second = conv[3].weight
    assert second.is_contiguous(memory_format=torch.channels_last)
    assert not second.is_contiguous()


@pytest.mark.parametrize("name", MODELS)
def test_the_initialisation_belongs_to_the_seed(name):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (build(name, input_shape=(1, 28, 28), classes=10, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)  # the user's generator is left alone
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_wrong_inputs_are_refused():
    with pytest.raises(UserError, match="use mlp"):
        build("conv-small", input_shape=(40,), classes=10, seed=0)
