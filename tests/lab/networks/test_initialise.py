"""He's initialisation."""

import math

import pytest
from torch import nn

from msgd.lab.networks.build import build_network

COLOUR = (3, 32, 32)


@pytest.mark.parametrize(("name", "options"), [("vgg11", {}), ("resnet18", {"norm": "batch"})])
def test_weights_have_the_variance_of_he(name, options):
    model = build_network(name, input_shape=COLOUR, classes=10, seed=0, **options)
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for weight in weights:
        expected = (1 if weight is weights[-1] else 2) / weight[0].numel()
        spread = math.sqrt(2 / weight.numel())  # of the second moment of a normal sample, relative
        assert abs(weight.square().mean().item() / expected - 1) < 5 * spread
