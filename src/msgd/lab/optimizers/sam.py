"""The climb of sharpness-aware minimisation (SAM), whose gradient is taken at the top of a small step uphill."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def climb(parameters: list[Tensor], gradients: tuple[Tensor, ...], rho: float) -> list[Tensor]:
    """Move the parameters uphill by a distance: θ + ρ·g/‖g‖, with the 2-norm of all tensors together.

    Args:
        parameters: are changed in place, unless the gradient is 0.
        gradients: a tensor for each parameter.
        rho: distance ρ, ≥ 0.

    Returns:
        The parameters as they were, for `restore`.

    References:
        Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for Efficiently Improving Generalization,
        ICLR 2021, arXiv 2010.01412, equ. 2 with p = 2.
    """
    saved = [parameter.detach().clone() for parameter in parameters]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))
    scale = torch.where(norm == 0, 0.0, rho / norm)  # on the device: a comparison in Python would wait for it
    torch._foreach_add_(parameters, torch._foreach_mul(gradients, scale))
    return saved


@torch.no_grad()
def restore(parameters: list[Tensor], saved: list[Tensor]) -> None:
    """Set the parameters back, bitwise.

    Args:
        parameters: are changed in place.
        saved: what `climb` returned.
    """
    torch._foreach_copy_(parameters, saved)
