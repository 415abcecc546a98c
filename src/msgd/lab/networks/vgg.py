"""VGG-11 for images of 32×32 pixels, without normalisation or dropout."""

from __future__ import annotations

from torch import nn

from msgd.lab.networks.initialise import he

CONFIGURATION_A = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")  #: M: 2×2 max-pooling


def vgg11(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build configuration A with a smaller head: 9,750,922 parameters for colour images and 10 classes.

    Five poolings leave one pixel of 512 channels, so the head is 512 → 512 → 512 → classes instead of ImageNet's.

    Args:
        input_shape: (channels, 32, 32).
        classes: number of outputs.

    Returns:
        The network, initialised by `he` from torch's global generator.

    References:
        Simonyan, Zisserman: Very Deep Convolutional Networks, ICLR 2015, arXiv 1409.1556, table 1.
    """
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for width in CONFIGURATION_A:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(512, 512), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Linear(512, classes))
    he(model)
    return model
