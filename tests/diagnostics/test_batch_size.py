"""From the noise scale to a batch size."""

import math

import pytest
import torch

from msgd.diagnostics import NoiseScaleMeter, suggest_batch_size
from msgd.noise import Emulate


def measured():
    """Gradients of mean 2 and variance 1 along one direction: a noise scale of 1/4 of an example, times 400."""
    model = torch.nn.Linear(1, 1, bias=False)
    meter = NoiseScaleMeter(b=2)
    for x in 20 * torch.randn(60, 4, 2, 1, generator=torch.Generator().manual_seed(0)) + 2:
        model.zero_grad()
        for micro in x:
            (model(micro).mean() / 4).backward()
            meter.after_backward(model.parameters())
        meter.end_step()
    return meter.estimate()


@pytest.mark.parametrize("efficiency", [0.1, 0.5, 0.9])
def test_the_batch_size_has_the_efficiency_that_was_asked_for(efficiency):
    scale = measured()
    found = suggest_batch_size(scale, efficiency=efficiency)
    assert scale.efficiency(found.b) == pytest.approx(efficiency, rel=1e-12)
    assert found.low < found.b < found.high
    for b, noise_scale in ((found.low, scale.low), (found.high, scale.high)):
        assert b == max(1.0, noise_scale * efficiency / (1 - efficiency))


def test_what_a_batch_lacks_is_what_emulate_adds():
    found = suggest_batch_size(120, batch=1000)
    assert found.missing == pytest.approx(Emulate(found.b).moments(1000).alpha / 1000, rel=2e-3)  # n/(n − 1)
    assert suggest_batch_size(2000, batch=1000).missing == 0


def test_no_gradient_to_be_seen():
    assert suggest_batch_size(math.inf, batch=100).b == math.inf
    assert suggest_batch_size(0.01).b == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise_scale": -1}, ValueError, "noise_scale must be positive"),
        ({"noise_scale": "big"}, TypeError, "noise_scale must be a number"),
        ({"noise_scale": math.nan}, ValueError, "noise_scale must be positive and finite"),
        ({"noise_scale": 10, "efficiency": 1}, ValueError, "between 0 and 1"),
        ({"noise_scale": 10, "efficiency": 0}, ValueError, "efficiency must be positive"),
        ({"noise_scale": 10, "batch": 0}, ValueError, "batch must be at least 1"),
    ],
)
def test_bad_input_names_the_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        suggest_batch_size(**arguments)
