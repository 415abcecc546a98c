"""A character-level language model on large batches with the noise of small ones: one weight per sequence.

python examples/language_model.py [STEPS]
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from msgd import Reweighter, noise

TEXT = (__doc__ or "") + (torch.nn.Module.__doc__ or "") + (torch.optim.SGD.__doc__ or "")  # any text will do
LENGTH, B = 64, 256


class Model(nn.Module):
    """A small causal transformer."""

    def __init__(self, characters: int, width: int = 64) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, characters)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next character at each position, shape (rows, length, characters)."""
        ahead = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.characters(tokens) + self.places.weight[: tokens.shape[1]]
        return self.head(self.layers(hidden, mask=ahead, is_causal=True))


def main(steps: int) -> None:
    """Train for some steps and print the loss in bits per character."""
    letters = sorted(set(TEXT))
    data = torch.tensor([letters.index(letter) for letter in TEXT])
    torch.manual_seed(0)
    model = Model(len(letters))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    reweight = Reweighter(noise.Emulate(b=32), seed=0)  # batches of 256 sequences, as noisy as 32

    for step in range(steps):
        starts = torch.randint(len(data) - LENGTH, (B,))
        window = data[starts[:, None] + torch.arange(LENGTH + 1)]
        logits = reweight.outputs(model(window[:, :-1]))
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step}: {loss.item() / torch.log(torch.tensor(2.0)):.3f} bits a character")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
