"""The weighted mean of losses, whose gradient is G·w/n."""

from __future__ import annotations

import torch
from torch import Tensor

from msgd._checks import check_losses
from msgd.noise.law import Weights


def weighted_mean(losses: Tensor, weights: Weights) -> Tensor:
    """Return the weighted mean loss ``Σ value_i·ℓ_i / n``, whose gradient is ``G·w/n``.

    The sum is divided by n, not by the sum of the weights, so that the gradient is unbiased.

    Args:
        losses: losses of the examples in ``weights.index``, in that order (of all n if it is None), shape (k,).
        weights: one draw of a law.

    Returns:
        A scalar to call ``.backward()`` on, in float32 or wider.

    Raises:
        TypeError: ``losses`` is not a floating-point tensor.
        ValueError: ``losses`` does not hold one loss for each weight.

    Examples:
        >>> losses = torch.tensor([1.0, 2.0])
        >>> weighted_mean(losses, Weights(torch.tensor([1, 3]), torch.tensor([2.0, 2.0]), n=4))
        tensor(1.5000)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """
    check_losses(losses)
    if losses.shape != weights.value.shape:
        raise ValueError(
            f"{losses.shape[0]} losses for {weights.value.shape[0]} weights: "
            "pass the losses of the examples in weights.index, in that order (of all n if it is None)"
        )
    # A sum of half-precision losses can overflow before it is divided by n.
    wide = torch.promote_types(losses.dtype, torch.float32)
    return torch.dot(losses.to(wide), weights.to(losses.device, wide).value) / weights.n
