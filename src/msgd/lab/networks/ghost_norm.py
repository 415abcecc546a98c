"""Ghost batch normalisation, which normalises each small group of a large batch separately."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM = 0.1  #: weight of a batch in the running statistics; torch's default


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over groups of ``ghost`` consecutive examples, or over the whole batch without ``ghost``.

    In training, group k is normalised as x̂ = (x − μ_k)/√(σ²_k + ε) with its own mean and variance. Each forward pass
    updates the running statistics once, towards the means and unbiased variances of the groups, averaged with the
    numbers of examples as weights; evaluation uses the running statistics. (Hoffer et al. update them once for each
    group.) The groups are part of the network: another order of the batch, or another split, computes another function.

    Args:
        channels: number of channels of the images.
        ghost: number of examples in a group, at least 2. With None, or a batch that makes a single group, the layer
            equals `nn.BatchNorm2d`.

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
        # On a CPU, a call of torch's kernel for each group is three times faster than all groups together with
        # autograd. On a GPU, launching hundreds of small kernels would cost more than the computation.
        normalise = normalise_together if input.is_cuda else normalise_each
        output, means, variances = normalise(input, sizes, self.weight, self.bias, self.eps)
        self._update_running_statistics(sizes, means, variances)
        return output

    @torch.no_grad()
    def _update_running_statistics(self, sizes: list[int], means: Tensor, variances: Tensor) -> None:
        assert self.running_mean is not None  # for mypy
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        last = sizes[-1] / sum(sizes)  # all groups but the last have the same size
        for running, values in ((self.running_mean, means), (self.running_var, variances)):
            running.lerp_((1 - last) * values[:-1].mean(0) + last * values[-1], MOMENTUM)
        self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        """Show the number of channels and the group size."""
        return f"{self.num_features}, ghost={self.ghost}"


def group_sizes(n: int, ghost: int | None) -> list[int]:
    """Sizes of the groups of a batch, in order.

    Args:
        n: number of examples in the batch.
        ghost: number of examples in a group; None for a single group.

    Returns:
        The sizes: ``ghost`` each, with a shorter last group if n is not a multiple. A single remaining example joins
        the group before it, because one example has no variance.
    """
    if ghost is None or n <= ghost + 1:
        return [n]
    groups, rest = divmod(n, ghost)
    if rest == 1:
        return [ghost] * (groups - 1) + [ghost + 1]
    return [ghost] * groups + [rest] * (rest > 0)


def normalise_each(
    x: Tensor, sizes: list[int], weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each group with a separate call of torch's BatchNorm.

    Args:
        x: images, shape (B, channels, height, width).
        sizes: sizes of the groups.
        weight: scale of each channel, shape (channels,).
        bias: shift of each channel, shape (channels,).
        eps: ε, which is added to the variance.

    Returns:
        The normalised images, and the means and the unbiased variances of the groups, each of shape
        (groups, channels).
    """
    means, variances = (weight.new_zeros(len(sizes), x.shape[1]) for _ in range(2))
    parts = [  # with momentum 1, BatchNorm writes the statistics of the group into `mean` and `variance`
        F.batch_norm(group, mean, variance, weight, bias, training=True, momentum=1.0, eps=eps)
        for group, mean, variance in zip(torch.split(x, sizes), means, variances, strict=True)
    ]
    return torch.cat(parts), means, variances


def normalise_together(
    x: Tensor, sizes: list[int], weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise all groups of the same size together, without copying images in channels-last layout.

    Args:
        x: as in `normalise_each`.
        sizes: as in `normalise_each`; all sizes but the last are equal.
        weight: as in `normalise_each`.
        bias: as in `normalise_each`.
        eps: as in `normalise_each`.

    Returns:
        The same as `normalise_each`.
    """
    if sizes[-1] != sizes[0]:
        parts = torch.split(x, [len(x) - sizes[-1], sizes[-1]])
        results = (
            normalise_together(part, part_sizes, weight, bias, eps)
            for part, part_sizes in zip(parts, (sizes[:-1], sizes[-1:]), strict=True)
        )
        output, means, variances = (torch.cat(pair) for pair in zip(*results, strict=True))
        return output, means, variances
    batch, channels, height, width = x.shape
    y = x.permute(0, 2, 3, 1).reshape(len(sizes), -1, channels)
    variance, mean = torch.var_mean(y, dim=1, correction=0, keepdim=True)
    scale = weight * torch.rsqrt(variance + eps)
    output = torch.addcmul(bias - mean * scale, y, scale).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    number = y.shape[1]
    return output, mean[:, 0].detach(), variance[:, 0].detach() * (number / (number - 1))
