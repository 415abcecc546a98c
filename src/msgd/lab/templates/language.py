"""Language: predict the next character of text.txt beside this file or in ``--data-dir``, or else of Python's own help.

msgd needs at most four functions: data, network, loss and scores. Change them, and run the recipe again.
"""

import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHARACTERS = 128  # ASCII; others become "?"
LENGTH = 32  # of a sequence, which is one example
LOWER_IS_BETTER = ["bits per character"]  # of an accuracy, which is not in this list, more would be better
Part = tuple[Tensor, Tensor]  # characters and the characters that follow them, both of shape (n, 32)


def data(data_dir: Path | None, seed: int) -> tuple[Part, Part]:
    """Return the training part and the test part; the seed is 0, unless the recipe varies the data."""
    path = (data_dir or Path(__file__).parent) / "text.txt"
    text = path.read_text(encoding="utf-8") if data_dir or path.exists() else "\n".join(topics.values())
    characters = np.frombuffer(text[:24_000].encode("ascii", "replace"), dtype=np.uint8)
    pairs = torch.from_numpy(characters.astype(np.int64)).unfold(0, LENGTH + 1, LENGTH)  # shape (n, 33)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pairs)))
    test, train = pairs[order[: len(pairs) // 4]], pairs[order[len(pairs) // 4 :]]
    return (train[:, :-1], train[:, 1:]), (test[:, :-1], test[:, 1:])


class Network(nn.Module):
    """Two convolutions that look back only; it sees the last nine characters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 32)
        self.convolutions = nn.ModuleList([nn.Conv1d(32, 48, kernel_size=5), nn.Conv1d(48, 48, kernel_size=5)])
        self.output = nn.Linear(48, CHARACTERS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logits of the next characters, shape (batch, 32, 128)."""
        x = self.embedding(inputs).transpose(1, 2)
        for convolution in self.convolutions:
            x = F.relu(convolution(F.pad(x, (4, 0))))  # four zeros before the first character
        logits: Tensor = self.output(x.transpose(1, 2))
        return logits


network = Network  # a function without arguments, or a class, that builds the network


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one loss for each sequence, shape (batch,): the mean over its characters. The noise weights each loss."""
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)


def scores(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return one value of each score for each sequence; the first score decides, and the margin is in its unit."""
    return {"bits per character": loss(outputs, targets) / math.log(2)}
