"""He initialisation, which networks without normalisation need."""

from __future__ import annotations

import torch
from torch import nn


def he(model: nn.Module) -> None:
    """Draw weights that preserve the second moment of the signal through ReLU layers: Var(W) = 2/fan_in, biases 0.

    Section 2.2 offers fan_in or fan_out. This function uses fan_in, because without normalisation the scale of the
    forward signal, and with it the first loss, has to be right. With fan_out, every layer that widens would shrink the
    forward signal, the first layer by √(3/64). With fan_in, the scale of the backward signal differs from 1 by a factor
    that telescopes over the layers, not by a power of the depth. No ReLU follows the last linear layer, so there
    Var(W) = 1/fan_in. The weights of convolutions get the channels-last layout.

    Args:
        model: a network whose last linear layer computes its outputs. Its parameters are overwritten with draws from
            torch's global generator.

    References:
        He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, arXiv 1502.01852, equ. 10 and 14.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear" if layer is layers[-1] else "relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if layer.weight.ndim == 4:
            # `contiguous` would do nothing with one input channel, and the outputs would not be channels-last.
            weight = torch.empty_like(layer.weight, memory_format=torch.channels_last)
            layer.weight.data = weight.copy_(layer.weight.detach())
