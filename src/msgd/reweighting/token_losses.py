"""Losses of sequences, the examples of a language model, from the losses of their tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def per_sequence(
    losses: Tensor, *, counted: Tensor | None = None, sequence: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean token loss ``ℓ_i = Σ_t ℓ_it/c_i`` and the number of tokens ``c_i`` of each sequence.

    With ``losses, tokens = per_sequence(…)``, the call ``reweight(losses, sample_weight=tokens)`` returns
    Σ_i w_i Σ_t ℓ_it / Σ_i c_i: one weight per sequence, because the tokens of a sequence depend on each other, and the
    mean over tokens that language models are trained with. If documents are packed into rows, ``sequence`` separates
    them: the tokens of a row with the same number form one example. The numbers may start anywhere, have gaps, and
    start again in each row.

    Args:
        losses: losses of the tokens, shape (rows, length), computed with ``reduction="none"``.
        counted: mask of the tokens that count, same shape: False for padding and for tokens that are not predicted
            (``labels != -100``).
        sequence: number of the document that each token belongs to, int64, same shape. None: each row is one sequence.
            Counting the documents synchronises with the device.

    Returns:
        The mean losses, shape (sequences,), and the numbers of tokens, in the same dtype (float32 or wider). Without
        ``sequence`` the order is that of the rows, and a row without tokens has the loss 0. With ``sequence`` the
        documents are ordered by row and number, and only documents with tokens are returned.

    Raises:
        TypeError: ``losses`` is not a floating-point tensor, ``counted`` not a boolean tensor, or ``sequence`` not an
            int64 tensor.
        ValueError: ``losses`` does not have two dimensions, or the shape of another argument differs from its shape.

    Examples:
        >>> tokens = torch.tensor([[1.0, 3.0, 9.0], [5.0, 0.0, 0.0]])
        >>> per_sequence(tokens, counted=torch.tensor([[True, True, False], [True, False, False]]))
        (tensor([2., 5.]), tensor([2., 1.]))
        >>> per_sequence(tokens, sequence=torch.tensor([[7, 7, 8], [8, 9, 9]]))  # packed: four documents
        (tensor([2., 9., 5., 0.]), tensor([2., 1., 1., 2.]))
    """
    _check_tokens(losses, counted, sequence)
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    ones = torch.ones_like(wide) if counted is None else counted.to(wide.dtype)
    # torch.where and not a product, because a padded token may have the loss nan, and 0·nan is nan.
    wide = wide if counted is None else torch.where(counted, wide, 0.0)
    if sequence is None:
        sums, tokens = wide.sum(1), ones.sum(1)
    else:
        kept = torch.ones_like(sequence, dtype=torch.bool) if counted is None else counted
        row = torch.arange(len(sequence), device=sequence.device)[:, None].expand_as(sequence)
        numbers, number = torch.unique(sequence[kept], return_inverse=True)
        pairs, at = torch.unique(row[kept] * len(numbers) + number, return_inverse=True)
        sums = wide.new_zeros(len(pairs)).index_add(0, at, wide[kept])
        tokens = wide.new_zeros(len(pairs)).index_add(0, at, ones[kept])
    return sums / tokens.clamp(min=1), tokens


def _check_tokens(losses: Tensor, counted: Tensor | None, sequence: Tensor | None) -> None:
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        raise TypeError("losses must be a floating-point tensor of one loss for each token")
    if losses.ndim != 2:
        raise ValueError(
            f"losses must have shape (rows, length), one loss for each token, not {tuple(losses.shape)}: "
            'use reduction="none" in the loss, and view(rows, length) if the losses were flattened'
        )
    for name, given, dtype in (("counted", counted, torch.bool), ("sequence", sequence, torch.int64)):
        if given is not None and given.dtype != dtype:
            raise TypeError(f"{name} must be a tensor of {dtype}, not {given.dtype}")
        if given is not None and given.shape != losses.shape:
            raise ValueError(f"{name} has shape {tuple(given.shape)}: use the shape of losses, {tuple(losses.shape)}")
