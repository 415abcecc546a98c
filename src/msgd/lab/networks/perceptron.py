"""The multilayer perceptron, with a gradient that needs no autograd: autograd is half the time of a small step."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL_BATCH = 128  #: up to so many examples, two transposes cost more time than they save


def log_softmax(logits: Tensor) -> tuple[Tensor, int]:
    """Log-softmax over classes, in the faster memory layout.

    On a CPU, a softmax over ten classes along rows is four times slower than one along ten contiguous columns.

    Args:
        logits: shape (n, classes).

    Returns:
        The log-probabilities and the dimension of the classes: shape (n, classes) and 1, or shape (classes, n) and 0.
    """
    if len(logits) <= SMALL_BATCH or logits.is_cuda:
        return torch.log_softmax(logits, 1), 1
    return torch.log_softmax(logits.t(), 0), 0


class Perceptron(nn.Sequential):
    """Linear layers with a ReLU between each two, for inputs of any shape.

    Args:
        sizes: numbers of units of the input, the hidden layers and the output.
    """

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])
        self.linear = [layer for layer in layers if isinstance(layer, nn.Linear)]

    @torch.no_grad()
    def gradient(self, inputs: Tensor, targets: Tensor, value: Tensor, n: int) -> tuple[Tensor, ...]:
        """Gradient of ``Σ value_i·ℓ_i / n``, where ℓ is the cross-entropy; bitwise equal to the gradient from autograd.

        Args:
            inputs: the inputs of k examples, shape (k, …).
            targets: their classes, shape (k,).
            value: their weights, shape (k,).
            n: the number that the sum is divided by.

        Returns:
            One tensor for each parameter.
        """
        activations = [inputs.flatten(1)]
        for layer in self.linear[:-1]:
            activations.append(torch.relu_(F.linear(activations[-1], layer.weight, layer.bias)))
        last = self.linear[-1]
        logits, classes = log_softmax(F.linear(activations[-1], last.weight, last.bias))
        share = value.to(logits.dtype) * (logits.new_ones(()) / n)
        upward = torch.zeros_like(logits).scatter_(classes, targets.unsqueeze(classes), -share.unsqueeze(classes))
        upward = torch.ops.aten._log_softmax_backward_data(upward, logits, classes, logits.dtype)
        upward = upward if classes == 1 else upward.t()
        gradients: list[Tensor] = []
        for layer, below in zip(reversed(self.linear), reversed(activations), strict=True):
            gradients += [upward.sum(0), upward.t() @ below]
            if layer is not self.linear[0]:
                upward = torch.ops.aten.threshold_backward(upward @ layer.weight, below, 0)
        return tuple(reversed(gradients))


def perceptron(input_shape: tuple[int, ...], classes: int) -> Perceptron:
    """Build the network of the MNIST-1D experiments: two hidden layers of 100 ReLU units."""
    return Perceptron(math.prod(input_shape), 100, 100, classes)
