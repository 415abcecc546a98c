"""Losses of tokens, put together to those of sequences: the examples of a language model."""

from __future__ import annotations

import torch
from torch import Tensor


def per_sequence(
    losses: Tensor, *, counted: Tensor | None = None, sequence: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean token loss and number of tokens of each sequence, ``ℓ_i = Σ_t ℓ_it/c_i`` and ``c_i``.

    ``reweight(losses, sample_weight=tokens)`` of them is Σ_i w_i Σ_t ℓ_it / Σ_i c_i: a weight for each sequence, whose
    tokens depend on each other, and the mean over tokens, as language models are trained. Where documents are packed
    into rows, ``sequence`` tells them apart: the tokens of a row with the same number are an example. Numbers may begin
    anywhere, leave some out, and start again in each row.

    Args:
        losses: of the tokens, shape (rows, length): the loss with ``reduction="none"``.
        counted: which tokens count, same shape: False for padding and what is not learnt (``labels != -100``).
        sequence: number of the document that each token belongs to, int64, same shape. None: each row is one. Counting
            them waits for a device.

    Returns:
        The mean losses, shape (sequences,), and the numbers of tokens in the same dtype, float32 or wider. Rows come
        in their order, a row without tokens with the loss 0; documents by row and number, those with tokens alone.

    Raises:
        TypeError: ``losses`` is no floating-point tensor, ``counted`` no boolean one or ``sequence`` no int64 one.
        ValueError: ``losses`` has not two dimensions, or another argument has another shape.

    Examples:
        >>> tokens = torch.tensor([[1.0, 3.0, 9.0], [5.0, 0.0, 0.0]])
        >>> per_sequence(tokens, counted=torch.tensor([[True, True, False], [True, False, False]]))
        (tensor([2., 5.]), tensor([2., 1.]))
        >>> per_sequence(tokens, sequence=torch.tensor([[7, 7, 8], [8, 9, 9]]))  # packed: four documents
        (tensor([2., 9., 5., 0.]), tensor([2., 1., 1., 2.]))
    """
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        raise TypeError("losses must be a floating-point tensor of one loss for each token")
    if losses.ndim != 2:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}, and one for each token is needed, shape (rows, length): "
            'use reduction="none" in the loss, and view(rows, length) where it was flattened'
        )
    for name, given, dtype in (("counted", counted, torch.bool), ("sequence", sequence, torch.int64)):
        if given is not None and given.dtype != dtype:
            raise TypeError(f"{name} must be a tensor of {dtype}, not {given.dtype}")
        if given is not None and given.shape != losses.shape:
            raise ValueError(f"{name} has shape {tuple(given.shape)}, and the losses have {tuple(losses.shape)}")
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    ones = torch.ones_like(wide) if counted is None else counted.to(wide.dtype)
    # where, not a product: a padded token may have the loss nan, and 0·nan is nan.
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
