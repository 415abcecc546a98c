"""The moving average of parameters."""

import pytest
import safetensors.torch
import torch
from torch import nn

from msgd.lab.optimizers.ema import Average


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@torch.no_grad()
def move(model: nn.Module, step: int) -> None:
    torch.manual_seed(step)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_it_is_the_weighted_sum(decay):
    model = network()
    average = Average(model, decay)
    path = [model[0].weight.detach().double().clone()]
    for step in range(4):
        move(model, step)
        average.update()
        path.append(model[0].weight.detach().double().clone())
    # d⁴·θ₀ + (1 − d)·Σ d^(4−k)·θ_k
    expected = decay**4 * path[0] + (1 - decay) * sum(decay ** (4 - k) * path[k] for k in range(1, 5))
    torch.testing.assert_close(average.state()["ema.0.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_it_is_that_of_torch():
    model = network()
    average = Average(model, 0.9)
    twin = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    twin.update_parameters(model)  # the first call copies θ₀
    for step in range(5):
        move(model, step)
        average.update()
        twin.update_parameters(model)
    for name, value in twin.module.named_parameters():
        assert torch.equal(average.state()[f"ema.{name}"], value)


def test_the_parameters_are_swapped_and_swapped_back_bitwise():
    model = network()
    average = Average(model, 0.5)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    move(model, 0)
    now = [parameter.detach().clone() for parameter in model.parameters()]
    with average.swapped():
        inside = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(RuntimeError, match="evaluation"), average.swapped():
        raise RuntimeError("evaluation")
    assert all(torch.equal(a, b) for a, b in zip(start, inside, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(now, model.parameters(), strict=True))
    assert not torch.equal(now[0], start[0])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_loaded_average_continues_bitwise():
    model = network()
    average = Average(model, 0.8)
    move(model, 0)
    average.update()
    file = safetensors.torch.save(average.state())
    other = Average(model, 0.8)  # starts at other parameters
    other.load(safetensors.torch.load(file) | {"optimizer.0.weight.step": torch.zeros(())})
    move(model, 1)
    average.update()
    other.update()
    assert average.state().keys() == {"ema.0.weight", "ema.0.bias", "ema.1.weight", "ema.1.bias"}
    for name, value in average.state().items():
        assert torch.equal(other.state()[name], value)
