"""Classification: points in 20 dimensions, whose class a random network chose; every tenth label is a random one.

msgd needs at most four functions: data, network, loss and scores. Without loss and scores, as here, it trains with the
cross-entropy, and reports the accuracy and the calibration error. Change the functions, and run the recipe again.
"""

import numpy as np
import torch
from torch import Tensor, nn

INPUTS, CLASSES = 20, 4
WRONG = 0.1  # the part of the training labels that are drawn at random

Part = tuple[Tensor, Tensor]  # inputs (n, 20) and classes (n,), which are integers


def data(seed: int) -> tuple[Part, Part]:
    """Return the training part and the test part; the seed is 0, unless the recipe varies the data.

    To read files instead, write ``def data(data_dir, seed)``: data_dir is the folder that ``--data-dir`` names.
    """
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(INPUTS, 8)), rng.normal(size=(8, CLASSES))
    inputs = rng.normal(size=(2600, INPUTS))
    classes = np.argmax(np.tanh(inputs @ first / 2) @ second, axis=1)
    is_wrong = rng.random(600) < WRONG
    noisy = np.where(is_wrong, rng.integers(CLASSES, size=600), classes[:600])
    x = torch.from_numpy(inputs)
    return (x[:600], torch.from_numpy(noisy)), (x[600:], torch.from_numpy(classes[600:]))


class Network(nn.Module):
    """Two hidden layers with dropout, which is off while the network is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(INPUTS, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute a logit for each class, shape (batch, 4)."""
        logits: Tensor = self.layers(inputs)
        return logits


def network() -> nn.Module:
    """Build the network; torch's generator has the seed of the run already."""
    return Network()
