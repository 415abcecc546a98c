"""Token losses, put together to those of sequences."""

import pytest
import torch

from msgd import Reweighter, per_sequence
from msgd.noise import Cov, Emulate, Fisher

LENGTHS = [5, 1, 3, 0, 4]


def documents():
    """Token losses of documents of different lengths, as a list, float64."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(length, generator=generator, dtype=torch.float64, requires_grad=True) for length in LENGTHS]


def padded(parts):
    """One row for each document; what is counted; garbage in the padding."""
    width = max(LENGTHS)
    rows = [torch.cat([part, torch.full((width - len(part),), torch.nan, dtype=part.dtype)]) for part in parts]
    counted = torch.stack([torch.arange(width) < len(part) for part in parts])
    return torch.stack(rows), counted


def packed(parts, first=0, restart=False):
    """Two rows, documents 0 and 1 in one, 2 and 4 in the other (3 is empty); a place left over in the first."""
    rest = torch.full((1,), torch.nan, dtype=torch.float64)
    rows = torch.stack([torch.cat([parts[0], parts[1], rest]), torch.cat([parts[2], parts[4]])])
    numbers = [[0] * 5 + [1] * 2, [0] * 3 + [1] * 4 if restart else [2] * 3 + [4] * 4]
    return rows, ~rows.isnan(), torch.tensor(numbers) + first


def test_means_and_numbers_of_tokens():
    parts = documents()
    rows, counted = padded(parts)
    means, tokens = per_sequence(rows, counted=counted)
    assert tokens.tolist() == LENGTHS
    for mean, part in zip(means.tolist(), parts, strict=True):
        # five positive numbers, summed in any order: to within 5·2⁻⁵³ of their sum
        assert mean == pytest.approx(sum(part.tolist()) / max(len(part), 1), rel=1e-14)


@pytest.mark.parametrize("first", [0, 12, 10**12])
@pytest.mark.parametrize("restart", [False, True])
def test_packed_documents_however_they_are_numbered(first, restart):
    parts = documents()
    rows, counted, number = packed(parts, first, restart)
    means, tokens = per_sequence(rows, counted=counted, sequence=number)
    assert tokens.tolist() == [5, 1, 3, 4]  # none is invented
    truth = torch.stack([parts[which].mean() for which in (0, 1, 2, 4)])
    torch.testing.assert_close(means, truth, rtol=1e-14, atol=0)


@pytest.mark.parametrize("law", [Fisher(2), Cov(2), Emulate(2)])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_gradient_is_that_of_weighted_sequences(law, layout):
    parts = documents()
    rows, counted, *owner = padded(parts) if layout == "padded" else packed(parts)
    means, tokens = per_sequence(rows, counted=counted, sequence=owner[0] if owner else None)
    Reweighter(law, seed=1)(means, sample_weight=tokens).backward()
    w = law.draw(len(means), seed=1, step=0).dense().double()
    parts = parts if layout == "padded" else [part for part in parts if len(part)]
    for weight, part in zip(w, parts, strict=True):
        expected = torch.full_like(part, float(weight) / 13)  # Σ_i w_i Σ_t ℓ_it over all 13 tokens
        torch.testing.assert_close(part.grad, expected, rtol=1e-6, atol=0)


def test_micro_batches_of_sequences():
    """Numbers of tokens differ from one micro-batch to the next; total= is what all hold together."""
    parts = documents()
    rows, counted = padded(parts)
    reweight = Reweighter(Cov(2), seed=1, logical_batch=5)
    for part in (slice(0, 2), slice(2, 5)):
        means, tokens = per_sequence(rows[part], counted=counted[part])
        reweight(means, sample_weight=tokens, total=13.0).backward()
    w = Cov(2).draw(5, seed=1, step=0).dense()
    for weight, part in zip(w, parts, strict=True):
        torch.testing.assert_close(part.grad, torch.full_like(part, float(weight) / 13), rtol=1e-6, atol=0)


def test_half_precision_is_summed_in_float32():
    means, tokens = per_sequence(torch.full((1, 4096), 40.0, dtype=torch.float16))
    assert means.dtype == tokens.dtype == torch.float32
    assert means.tolist() == [40.0]


def test_nothing_at_all():
    means, tokens = per_sequence(torch.zeros(0, 3), sequence=torch.zeros(0, 3, dtype=torch.int64))
    assert means.shape == tokens.shape == (0,)


LOSSES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: per_sequence([1.0]), TypeError, "floating-point tensor of one loss for each token"),
        (lambda: per_sequence(LOSSES.long()), TypeError, "floating-point tensor"),
        (lambda: per_sequence(LOSSES.flatten()), ValueError, r'reduction="none".*view\(rows, length\)'),
        (lambda: per_sequence(LOSSES, counted=LOSSES), TypeError, "counted must be a tensor of torch.bool"),
        (lambda: per_sequence(LOSSES, sequence=LOSSES), TypeError, "sequence must be a tensor of torch.int64"),
        (lambda: per_sequence(LOSSES, counted=LOSSES[:, :2] > 0), ValueError, r"counted has shape \(2, 2\)"),
    ],
)
def test_bad_input_names_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
