"""ResNet-18 for images of 32×32 pixels, with any normalisation or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.lab.networks.ghost_norm import GhostBatchNorm2d
from msgd.lab.networks.initialise import he

STAGES = (64, 128, 256, 512)
BLOCKS = 2  #: in a stage
GROUPS = 32  #: of channels, for GroupNorm

NORMS: dict[str, Callable[[int, int | None], nn.Module]] = {
    "none": lambda channels, ghost: nn.Identity(),  # noqa: ARG005
    "group": lambda channels, ghost: nn.GroupNorm(GROUPS, channels),  # noqa: ARG005
    "batch": GhostBatchNorm2d,
}


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut: ReLU(branch(x) + shortcut(x)).

    Args:
        channels: of the input.
        width: of the output.
        stride: of the first convolution.
        norm: makes the layer after a convolution, given its channels.
        bias: whether the convolutions have one.
    """

    def __init__(self, channels: int, width: int, *, stride: int, norm: Callable[[int], nn.Module], bias: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=bias),
            norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=bias),
            norm(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=bias), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (B, channels, h, w) to (B, width, h/stride, w/stride)."""
        return F.relu(self.branch(x) + self.shortcut(x), inplace=True)


def resnet18(input_shape: tuple[int, ...], classes: int, *, norm: str = "batch", ghost: int | None = None) -> nn.Module:
    """The variant for small images: 3×3 stem, no max-pooling; 11,173,962 parameters for colour, 10 classes, BatchNorm.

    Args:
        input_shape: (channels, 32, 32).
        classes: number of outputs.
        norm: "batch" is `GhostBatchNorm2d`; "group" `nn.GroupNorm` over 32 groups of channels (Wu and He); "none" no
            normalisation, biases in its place, and the initialisation of `fixup`.
        ghost: group size of "batch"; None for the whole batch.

    Returns:
        The network, initialised with `he`, from torch's generator.

    References:
        He, Zhang, Ren, Sun: Deep Residual Learning, CVPR 2016, arXiv 1512.03385, table 1 and section 4.2.
        Wu, He: Group Normalization, ECCV 2018, arXiv 1803.08494.
    """

    def make(channels: int) -> nn.Module:
        return NORMS[norm](channels, ghost)

    bias = norm == "none"
    stem = nn.Conv2d(input_shape[0], STAGES[0], 3, padding=1, bias=bias)
    layers: list[nn.Module] = [stem, make(STAGES[0]), nn.ReLU(inplace=True)]
    channels = STAGES[0]
    for width in STAGES:
        for number in range(BLOCKS):
            stride = 2 if number == 0 and width != STAGES[0] else 1
            layers.append(Block(channels, width, stride=stride, norm=make, bias=bias))
            channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    he(model)
    if norm == "none":
        fixup(model)
    return model


@torch.no_grad()
def fixup(model: nn.Sequential) -> None:
    """Scale a `he` initialisation down so that depth does not make signal and updates explode without normalisation.

    Rules 1 and 2 of Fixup: the last convolution of each branch is 0, so that a block without convolution in its
    shortcut is the identity at first; the first one is divided by √L, with L branches of m = 2 layers, L^(−1/(2m−2)).
    The rest is plainer: every convolution has its usual bias, 0 at first, instead of rule 3's scalar biases and
    multipliers, and the last layer, in rule 1 also 0, stays as it is, so that there is a gradient to study from the
    start.

    Args:
        model: the network.

    References:
        Zhang, Dauphin, Ma: Fixup Initialization, ICLR 2019, arXiv 1901.09321, section 3.
    """
    blocks = [layer for layer in model if isinstance(layer, Block)]
    for block in blocks:
        first, last = (layer for layer in block.branch if isinstance(layer, nn.Conv2d))
        first.weight.div_(len(blocks) ** 0.5)
        last.weight.zero_()
