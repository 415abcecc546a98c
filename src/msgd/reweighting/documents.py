"""Documents that are packed into the rows of a batch: the examples of a packed language model."""

from __future__ import annotations

import torch
from torch import Tensor


def number_examples(ids: Tensor, counted: Tensor | None = None) -> tuple[Tensor, int]:
    """Number the examples of a batch in order.

    Args:
        ids: int64 numbers of the examples, shape (batch, length), which may start again in each row, or (tokens,).
            Negative: the token belongs to no example.
        counted: mask of the same shape; examples without a True token are none.

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
        width = int(ids.max()) + 1 if ids.numel() else 1
        row = torch.arange(len(ids), device=ids.device).view(-1, *[1] * (ids.ndim - 1))
        ids = torch.where(kept, ids + row * max(width, 1), -1)
    chosen = torch.unique(ids[kept if counted is None else kept & counted])
    if len(chosen) == 0:
        return torch.full_like(ids, -1), 0
    at = torch.searchsorted(chosen, ids).clamp(max=len(chosen) - 1)
    return torch.where(chosen[at] == ids, at, -1), len(chosen)


def packed_ids(position_ids: Tensor) -> Tensor:
    """Return the numbers of the documents in each row, which start where the positions do not go on by one.

    Args:
        position_ids: position of each token in its document, shape (batch, length).

    Returns:
        int64 numbers from 0 in each row, shape (batch, length).

    Examples:
        >>> packed_ids(torch.tensor([[0, 1, 2, 0, 1, 0]]))
        tensor([[0, 0, 0, 1, 1, 2]])
    """
    first = torch.zeros_like(position_ids[:, :1], dtype=torch.bool)
    return torch.cat([first, position_ids.diff(dim=1) != 1], dim=1).cumsum(1)
