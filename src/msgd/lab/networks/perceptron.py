"""The multilayer perceptron, and its gradient without autograd: on a small network that is half the time of a step."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 128  #: examples below which two transposes cost more than they save


def log_softmax(logits: Tensor) -> tuple[Tensor, int]:
    """Log-softmax over classes, laid out for speed.

    Over ten classes in rows, softmax on a CPU is four times slower than down ten contiguous columns.

    Args:
        logits: shape (n, classes).

    Returns:
        Log-probabilities, shape (n, classes) and 1, or (classes, n) and 0: the dimension of the classes.
    """
    if len(logits) <= FEW or logits.is_cuda:
        return torch.log_softmax(logits, 1), 1
    return torch.log_softmax(logits.t(), 0), 0


class Perceptron(nn.Sequential):
    """Linear layers with ReLU between them, for inputs of any shape.

    Args:
        sizes: of the input, the hidden layers, and the output.
    """

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])
        self.linear = [layer for layer in layers if isinstance(layer, nn.Linear)]

    @torch.no_grad()
    def gradient(self, inputs: Tensor, targets: Tensor, value: Tensor, n: int) -> tuple[Tensor, ...]:
        """Gradient of ``Σ value_i·ℓ_i / n``, ℓ the cross-entropy: what autograd computes, to the bit.

        Args:
            inputs: of k examples.
            targets: their classes.
            value: their weights, shape (k,).
            n: what the sum is divided by.

        Returns:
            A tensor for each parameter.
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
