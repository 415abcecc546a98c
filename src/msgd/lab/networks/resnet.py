"""ResNet-18 for images of 32×32 pixels, with batch normalisation, group normalisation or none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.lab.networks.ghost_norm import GhostBatchNorm2d
from msgd.lab.networks.initialise import he

STAGES = (64, 128, 256, 512)
BLOCKS = 2  #: number of blocks in a stage
GROUPS = 32  #: number of channel groups of GroupNorm

NORMS: dict[str, Callable[[int, int | None], nn.Module]] = {
    "none": lambda channels, ghost: nn.Identity(),  # noqa: ARG005
    "group": lambda channels, ghost: nn.GroupNorm(GROUPS, channels),  # noqa: ARG005
    "batch": GhostBatchNorm2d,
}


class Block(nn.Module):
    """A residual block, ReLU(branch(x) + shortcut(x)), whose branch has two 3×3 convolutions.

    Args:
        channels: number of input channels.
        width: number of output channels.
        stride: stride of the first convolution.
        norm: builds the normalisation after a convolution from the number of channels.
        bias: whether the convolutions have a bias.
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
    """Build the variant for small images, with a 3×3 stem and no max-pooling.

    It has 11,173,962 parameters for colour images, 10 classes and BatchNorm.

    Args:
        input_shape: (channels, 32, 32).
        classes: number of outputs.
        norm: "batch" for `GhostBatchNorm2d`; "group" for `nn.GroupNorm` over 32 groups of channels (Wu and He); "none"
            for no normalisation, with biases in the convolutions and the initialisation of `fixup`.
        ghost: group size of "batch"; None to normalise over the whole batch.

    Returns:
        The network, initialised by `he` from torch's global generator.

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
    """Scale a `he` initialisation down, so that signal and updates do not explode with depth without normalisation.

    The function follows rules 1 and 2 of Fixup. The last convolution of each branch is set to 0, so that a block
    without a convolution in its shortcut starts as the identity. The first convolution is divided by √L; this is
    Fixup's factor L^(−1/(2m−2)) for L branches of m = 2 layers. Two things are simpler than in Fixup. Every convolution
    has an ordinary bias, initially 0, instead of the scalar biases and multipliers of rule 3. The last layer, which
    rule 1 also sets to 0, keeps its weights, so that there is a gradient to study from the start.

    Args:
        model: a network from `resnet18`; its weights are changed in place.

    References:
        Zhang, Dauphin, Ma: Fixup Initialization, ICLR 2019, arXiv 1901.09321, section 3.
    """
    blocks = [layer for layer in model if isinstance(layer, Block)]
    for block in blocks:
        first, last = (layer for layer in block.branch if isinstance(layer, nn.Conv2d))
        first.weight.div_(len(blocks) ** 0.5)
        last.weight.zero_()
