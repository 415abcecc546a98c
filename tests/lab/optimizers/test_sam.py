"""The climb of SAM."""

import pytest
import torch
from torch import nn

from msgd.lab.optimizers.sam import climb, restore


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(0.1))]


def test_the_climb_has_the_length_rho_along_the_gradient_of_all_parameters():
    theta = parameters()
    saved = climb(theta, (torch.tensor([3.0, 0.0]), torch.tensor(4.0)), 0.5)
    torch.testing.assert_close([value.detach() for value in theta], [torch.tensor([1.3, 2.0]), torch.tensor(0.5)])
    assert torch.equal(saved[0], torch.tensor([1.0, 2.0]))


def test_the_parameters_are_restored_bitwise():
    torch.manual_seed(0)
    theta = [nn.Parameter(torch.randn(50)), nn.Parameter(torch.randn(3, 4))]
    before = [value.detach().clone() for value in theta]
    gradients = tuple(torch.randn(value.shape) for value in theta)
    saved = climb(theta, gradients, 1e3)
    assert not torch.equal(theta[0], before[0])
    restore(theta, saved)
    assert all(torch.equal(a, b) for a, b in zip(before, theta, strict=True))


@pytest.mark.parametrize(("gradient", "rho"), [(0.0, 0.5), (1.0, 0.0)])
def test_a_zero_gradient_or_radius_moves_nothing(gradient, rho):
    theta = parameters()
    climb(theta, tuple(torch.full(value.shape, gradient) for value in theta), rho)
    assert all(torch.equal(a, b) for a, b in zip(parameters(), theta, strict=True))


def test_a_step_of_sam_on_a_parabola():
    """For ½·a·θ² in one dimension, the gradient at the top of the climb is a·(θ + ρ·sign θ)."""
    theta = nn.Parameter(torch.tensor([-2.0]))
    gradient = torch.autograd.grad(1.5 * theta.square().sum(), [theta])
    saved = climb([theta], gradient, 0.25)
    (top,) = torch.autograd.grad(1.5 * theta.square().sum(), [theta])
    restore([theta], saved)
    assert top.item() == pytest.approx(3 * -2.25)
    assert theta.item() == -2
