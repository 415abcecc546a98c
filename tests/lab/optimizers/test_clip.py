"""Clipping of a gradient."""

import math

import pytest
import torch
from torch import nn

from msgd.lab.optimizers.clip import clip_gradients


@pytest.mark.parametrize("limit", [0.1, 1.0, 5.0, 1e4])
def test_it_is_that_of_torch(limit):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), ())]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    mine = clip_gradients(tuple(parameter.grad.clone() for parameter in parameters), limit)
    nn.utils.clip_grad_norm_(parameters, limit)
    for gradient, parameter in zip(mine, parameters, strict=True):
        assert torch.equal(gradient, parameter.grad)


def test_the_norm_is_that_of_all_tensors_together():
    gradients = (torch.tensor([3.0]), torch.tensor([[0.0, 4.0]]))
    clipped = clip_gradients(gradients, 2.5)
    torch.testing.assert_close(clipped, (torch.tensor([1.5]), torch.tensor([[0.0, 2.0]])))
    assert torch.equal(gradients[0], torch.tensor([3.0]))  # unchanged
    zeros = (torch.zeros(3),)
    assert torch.equal(clip_gradients(zeros, 1.0)[0], zeros[0])
    assert clip_gradients((), 1.0) == ()


def test_one_tensor_for_two_parameters_is_scaled_once():
    one = torch.tensor([3.0, 4.0])
    first, second = clip_gradients((one, one), math.sqrt(2))
    torch.testing.assert_close(first, one / 5)
    torch.testing.assert_close(second, one / 5)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_stays_so(value):
    clipped = clip_gradients((torch.tensor([1.0]), torch.tensor([value])), 1.0)
    assert not torch.isfinite(clipped[1]).any()
