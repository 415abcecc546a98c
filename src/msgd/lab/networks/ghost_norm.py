"""Ghost batch normalisation: small groups of a large batch, each normalised on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM = 0.1  #: weight of a batch in the running statistics, torch's default


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over groups of ``ghost`` consecutive examples; over the whole batch without ``ghost``.

    In training, group k is normalised as x̂ = (x − μ_k)/√(σ²_k + ε) with its own mean and variance. The running
    statistics move once for each forward pass, towards the groups' means and unbiased variances, averaged by number
    of examples; evaluation uses them. (Hoffer et al. move them once for each group.) The groups are part of the
    network: a batch in another order, or cut elsewhere, is another function.

    Args:
        channels: of the images.
        ghost: examples in a group, at least 2; None, or a batch that makes a single group: `nn.BatchNorm2d` exactly.

    References:
        Hoffer, Hubara, Soudry: Train longer, generalize better, NeurIPS 2017, arXiv 1705.08741, algorithm 1.
    """

    def __init__(self, channels: int, ghost: int | None = None) -> None:
        super().__init__(channels, momentum=MOMENTUM)
        self.ghost = ghost

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise images of shape (B, channels, height, width)."""
        sizes = group_sizes(len(input), self.ghost)
        if not self.training or len(sizes) == 1:
            return super().forward(input)
        # On a CPU torch's own kernel, group by group, is three times faster than the groups at once with autograd; on a
        # GPU hundreds of small kernels would cost more than they compute.
        normalise = at_once if input.is_cuda else one_by_one
        output, means, variances = normalise(input, sizes, self.weight, self.bias, self.eps)
        self._follow(sizes, means, variances)
        return output

    @torch.no_grad()
    def _follow(self, sizes: list[int], means: Tensor, variances: Tensor) -> None:
        assert self.running_mean is not None  # for mypy
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        last = sizes[-1] / sum(sizes)  # the other groups are of one size
        for running, values in ((self.running_mean, means), (self.running_var, variances)):
            running.lerp_((1 - last) * values[:-1].mean(0) + last * values[-1], MOMENTUM)
        self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        """Channels and group size."""
        return f"{self.num_features}, ghost={self.ghost}"


def group_sizes(n: int, ghost: int | None) -> list[int]:
    """Sizes of the groups of a batch, in order.

    Args:
        n: examples in the batch.
        ghost: examples in a group; None for all.

    Returns:
        Groups of ``ghost``, the last one shorter where n is no multiple; a single example left over joins the group
        before it, because it has no variance of its own.
    """
    if ghost is None or n <= ghost + 1:
        return [n]
    whole, rest = divmod(n, ghost)
    if rest == 1:
        return [ghost] * (whole - 1) + [ghost + 1]
    return [ghost] * whole + [rest] * (rest > 0)


def one_by_one(x: Tensor, sizes: list[int], weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each group by a call of torch's BatchNorm.

    Args:
        x: images, shape (B, channels, height, width).
        sizes: of the groups.
        weight: scale of each channel.
        bias: shift of each channel.
        eps: is added to the variance.

    Returns:
        The images normalised, and of each group the means and unbiased variances, shape (groups, channels).
    """
    means, variances = (weight.new_zeros(len(sizes), x.shape[1]) for _ in range(2))
    parts = [  # a momentum of 1 leaves the group's own statistics in its rows
        F.batch_norm(group, mean, variance, weight, bias, training=True, momentum=1.0, eps=eps)
        for group, mean, variance in zip(torch.split(x, sizes), means, variances, strict=True)
    ]
    return torch.cat(parts), means, variances


def at_once(x: Tensor, sizes: list[int], weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise all groups of one size together; images in channels-last layout are never copied for it.

    Args:
        x: as in `one_by_one`.
        sizes: as in `one_by_one`; all but the last are equal.
        weight: as in `one_by_one`.
        bias: as in `one_by_one`.
        eps: as in `one_by_one`.

    Returns:
        As `one_by_one`.
    """
    if sizes[-1] != sizes[0]:
        whole, last = torch.split(x, [len(x) - sizes[-1], sizes[-1]])
        results = (at_once(whole, sizes[:-1], weight, bias, eps), at_once(last, sizes[-1:], weight, bias, eps))
        output, means, variances = (torch.cat(pair) for pair in zip(*results, strict=True))
        return output, means, variances
    batch, channels, height, width = x.shape
    y = x.permute(0, 2, 3, 1).reshape(len(sizes), -1, channels)
    variance, mean = torch.var_mean(y, dim=1, correction=0, keepdim=True)
    scale = weight * torch.rsqrt(variance + eps)
    output = torch.addcmul(bias - mean * scale, y, scale).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    number = y.shape[1]
    return output, mean[:, 0].detach(), variance[:, 0].detach() * (number / (number - 1))
