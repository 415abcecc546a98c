"""The perceptron's gradient is autograd's, to the bit."""

import pytest
import torch
from torch.nn import functional as F

from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy
from msgd.noise import Weights
from msgd.reweighting.weighted_mean import weighted_mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [0, 1, 20, 300])  # few and many are laid out differently
def test_the_perceptrons_gradient_is_autograds_to_the_bit(n, dtype):
    model = build_network("mlp", input_shape=(4, 5), classes=10, seed=2).to(dtype)
    rng = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, 4, 5, generator=rng, dtype=dtype), torch.randint(0, 10, (n,), generator=rng)
    value = torch.randn(n, generator=rng)
    loss = weighted_mean(cross_entropy(model(x), y), Weights(None, value, 1000))
    slow = F.cross_entropy(model(x), y, reduction="none") @ value.to(dtype) / 1000
    theirs, plain = (torch.autograd.grad(scalar, list(model.parameters())) for scalar in (loss, slow))
    for mine, same, alike in zip(model.gradient(x, y, value, 1000), theirs, plain, strict=True):
        assert torch.equal(mine, same)
        torch.testing.assert_close(mine, alike, rtol=1e-4 if dtype == torch.float32 else 1e-11, atol=1e-8)
