"""Documents that are packed into the rows of a batch: the examples of a packed language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

#: The inputs of Transformers models whose first dimension is the batch, before others that may be in patches or tokens.
_INPUTS = ("input_ids", "inputs_embeds", "pixel_values", "input_features", "input_values")


def number_examples(ids: Tensor) -> tuple[Tensor, int]:
    """Number the examples of a batch in order.

    Args:
        ids: int64 numbers of the examples, shape (batch, length), which may start again in each row, or (tokens,).
            Negative: the token belongs to no example.

    Returns:
        The positions of the tokens' examples, from 0, in the order of rows and ids, -1 for no example; and the number
        of examples. Counting synchronises with the device.

    Raises:
        TypeError: ``ids`` are not integers.

    Examples:
        >>> number_examples(torch.tensor([[7, 7, 8], [7, -1, -1]]))
        (tensor([[ 0,  0,  1],
                [ 2, -1, -1]]), 3)
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"examples must be whole numbers (int64) for the tokens, not {ids.dtype}")
    ids = ids.to(torch.int64)
    kept = ids >= 0
    if ids.ndim > 1:
        width = max(int(ids.max()) + 1, 1) if ids.numel() else 1
        if width * len(ids) >= 2**63:  # such as hashes
            ids = torch.unique(ids, return_inverse=True)[1]
            width = ids.numel()
        row = torch.arange(len(ids), device=ids.device).view(-1, *[1] * (ids.ndim - 1))
        ids = torch.where(kept, ids + row * width, -1)
    chosen = torch.unique(ids[kept])
    if len(chosen) == 0:
        return torch.full_like(ids, -1), 0
    at = torch.searchsorted(chosen, ids).clamp(max=len(chosen) - 1)
    return torch.where(chosen[at] == ids, at, -1), len(chosen)


def packed_ids(position_ids: Tensor) -> Tensor:
    """Return the numbers of the documents in each row, which start where the positions do not go on by one.

    A document of a single token, such as a token of padding, predicts no next token: it is no example.

    Args:
        position_ids: position of each token in its document, shape (batch, length).

    Returns:
        int64 numbers from 0 in each row, shape (batch, length); -1 for the tokens of no example.

    Examples:
        >>> packed_ids(torch.tensor([[0, 1, 2, 0, 1, 0]]))
        tensor([[ 0,  0,  0,  1,  1, -1]])
    """
    first = torch.ones_like(position_ids[:, :1], dtype=torch.bool)
    starts = torch.cat([first, position_ids.diff(dim=1) != 1], dim=1)
    alone = starts & torch.cat([starts[:, 1:], first], dim=1)
    return torch.where(alone, -1, starts.cumsum(1) - 1)


def examples_in(
    inputs: Iterable[object], named: Mapping[str, object], batch_dim: int = 0
) -> tuple[int, int, Tensor | None]:
    """Find the examples in the inputs of a model: its rows, or the documents that are packed into them.

    Documents are packed if ``position_ids`` restart within a row and there is no ``attention_mask``.

    Args:
        inputs: the positional inputs.
        named: the inputs by name.
        batch_dim: dimension of the examples.

    Returns:
        The number of rows, 0 if the inputs hold no tensor; the number of examples; and for packed documents the
        position of each token's example, shape (batch, length), -1 for none.

    Examples:
        >>> examples_in([torch.zeros(4, 3)], {})
        (4, 4, None)
    """
    first = [named.get(name) for name in _INPUTS]
    tensors = [x for x in (*first, *inputs, *named.values()) if isinstance(x, Tensor) and x.ndim > batch_dim]
    rows = tensors[0].shape[batch_dim] if tensors else 0
    positions = None if named.get("attention_mask") is not None else named.get("position_ids")
    if not isinstance(positions, Tensor) or positions.ndim != 2 or len(positions) != rows:
        return rows, rows, None
    if not bool((positions.diff(dim=1) != 1).any()):  # each row counts on to its end
        return rows, rows, None
    at, n = number_examples(packed_ids(positions))
    return rows, n, at
