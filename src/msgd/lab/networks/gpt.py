"""A small GPT: a decoder-only transformer that predicts the next character."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError

WIDTH = 64  #: number of features of a character
HEADS = 2  #: heads of the attention; two cost a tenth less time than four
LAYERS = 2  #: number of blocks; with two, a step on 128 sequences takes about a tenth of a second on one CPU core


class Projection(nn.Linear):
    """A linear layer whose outputs are added to a shortcut, which decides about its initialisation."""


class Attention(nn.Module):
    """Causal multi-head self-attention: a position attends to itself and to the positions before it.

    It is written with products and a softmax, because the fused kernels have neither a forward mode nor a second
    derivative, and no rule for `torch.func.vmap`.

    Args:
        length: number of positions T.
        width: number of features, a multiple of ``heads``.
        heads: number of heads.
    """

    mask: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.joint = nn.Linear(width, 3 * width)  # queries, keys and values in one product
        self.projection = Projection(width, width)
        # The mask is a constant, so it does not belong in a checkpoint.
        self.register_buffer("mask", torch.full((length, length), -math.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (B, T, width) to features of the same shape."""
        batch, length, width = x.shape
        split = self.joint(x).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, width/heads)
        # The queries are smaller than the scores, so scaling them takes less time.
        scores = (queries * (width // self.heads) ** -0.5) @ keys.transpose(-2, -1) + self.mask
        attended = scores.softmax(-1) @ values
        projected: Tensor = self.projection(attended.transpose(1, 2).reshape(batch, length, width))
        return projected


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer normalisation and beside a shortcut.

    Args:
        length: number of positions T.
        width: number of features.
        heads: number of heads of the attention.
    """

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(length, width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), Projection(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (B, T, width) to features of the same shape."""
        x = x + self.attention(x)
        changed: Tensor = x + self.perceptron(x)
        return changed


class GPT(nn.Module):
    """Embeddings of characters and positions, blocks, a layer normalisation, and a linear head without bias.

    Args:
        length: number of positions T.
        classes: number of characters.
    """

    def __init__(self, length: int, classes: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(classes, WIDTH)
        self.positions = nn.Parameter(torch.empty(length, WIDTH))
        self.blocks = nn.Sequential(*(Block(length, WIDTH, HEADS) for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes, bias=False))
        self._initialise()

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes of characters, shape (B, T), to logits of the next characters, shape (B, T, classes).

        Args:
            codes: integers from 0 to classes − 1.

        Returns:
            The logits.

        Raises:
            UserError: the inputs are not integers.
        """
        if codes.is_floating_point():
            raise UserError(f"model: gpt takes sequences of integers, not of {codes.dtype}; use mlp")
        logits: Tensor = self.head(self.blocks(self.characters(codes) + self.positions))
        return logits

    def _initialise(self) -> None:
        nn.init.normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                # The outputs of 2·LAYERS branches are added up, so each of them starts smaller.
                std = 0.02 / math.sqrt(2 * LAYERS) if isinstance(module, Projection) else 0.02
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


def gpt(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a GPT of two blocks, 64 features and two heads: 112,512 parameters for 64 positions and 65 characters.

    Its size is chosen so that 1000 steps on 128 sequences take two minutes on one CPU core. It has no dropout.

    Args:
        input_shape: (T,), the number of characters in a sequence.
        classes: number of different characters.

    Returns:
        The network, with GPT-2's initialisation from torch's global generator: weights from N(0, 0.02²), divided by
        √(2·layers) in the layers whose outputs are added to a shortcut, and biases 0.

    Raises:
        UserError: the inputs are not sequences.

    References:
        Radford, Wu, Child, Luan, Amodei, Sutskever: Language Models are Unsupervised Multitask Learners, 2019,
        section 2.3.
    """
    if len(input_shape) != 1:
        raise UserError(f"model: gpt takes sequences of integers, of shape (T,), not {input_shape}; use mlp")
    return GPT(input_shape[0], classes)
