"""He initialisation, for networks that train without normalisation."""

from __future__ import annotations

import torch
from torch import nn


def he(model: nn.Module) -> None:
    """Draw weights that keep the second moment of the signal through ReLU layers: Var(W) = 2/fan_in, biases 0.

    Of the two choices in section 2.2 (fan_in or fan_out), fan_in: it is the forward signal, and so the first loss, that
    has to be right where no normalisation mends it, and fan_out would shrink it at every layer that widens, in the
    first one by √(3/64). The backward signal then differs from 1 by a factor that telescopes, not by one to the depth.
    The last linear layer has no ReLU behind it: Var(W) = 1/fan_in. Convolutions get the channels-last layout.

    Args:
        model: a network whose last linear layer gives its outputs; its parameters are replaced from torch's generator.

    References:
        He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, arXiv 1502.01852, equ. 10 and 14.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear" if layer is layers[-1] else "relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if layer.weight.ndim == 4:
            # Not `contiguous`: with one input channel it finds nothing to do, and the outputs get the other layout.
            weight = torch.empty_like(layer.weight, memory_format=torch.channels_last)
            layer.weight.data = weight.copy_(layer.weight.detach())
