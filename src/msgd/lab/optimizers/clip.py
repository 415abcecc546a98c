"""Clipping of a gradient to a largest norm."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def clip_gradients(gradients: tuple[Tensor, ...], limit: float) -> tuple[Tensor, ...]:
    """Scale a gradient down to a norm: g·min(1, limit/(‖g‖ + 10⁻⁶)), as `torch.nn.utils.clip_grad_norm_` does.

    Args:
        gradients: a tensor for each parameter. They are not changed: autograd may return one tensor for two
            parameters, which in place would be scaled twice.
        limit: largest 2-norm of all tensors together, > 0.

    Returns:
        A tensor for each parameter. A gradient that is not finite stays not finite.
    """
    if not gradients:
        return gradients
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))
    return tuple(torch._foreach_mul(gradients, (limit / (norm + 1e-6)).clamp(max=1.0)))
