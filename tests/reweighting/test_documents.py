"""Which example a token belongs to, against dictionaries and loops."""

import pytest
import torch

from msgd.reweighting.documents import examples_in, number_examples, packed_ids

NONE = -1


def by_hand(ids):
    """Each (row, number) that is not negative gets the next position, in order."""
    rows = ids.tolist() if ids.ndim > 1 else [[number] for number in ids.tolist()]
    keys = [[(row if ids.ndim > 1 else 0, number) for number in numbers] for row, numbers in enumerate(rows)]
    order = sorted({key for row in keys for key in row if key[1] >= 0})
    at = [[order.index(key) if key[1] >= 0 else NONE for key in row] for row in keys]
    return torch.tensor(at).view(ids.shape), len(order)


BIG = 2**62
IDS = [
    [[0, 0, 1], [2, 2, 2]],
    [[0, 0, 1], [0, 1, 1]],  # starting again
    [[7, 7, 3], [NONE, 3, 7]],  # not in order
    [[5, NONE, NONE], [NONE, NONE, NONE]],
    [[0, 1, 0, 1]],
    [3, 3, 0, NONE, 8],
    [0],
    [[BIG, BIG + 1, NONE], [0, 1, BIG], [1, 1, 1], [1, 1, 2], [0, 1, 8]],  # hashes: row·width would overflow
    [BIG, 0, BIG],
]


@pytest.mark.parametrize("ids", IDS, ids=str)
def test_numbers(ids):
    at, n = number_examples(torch.tensor(ids))
    truth, number = by_hand(torch.tensor(ids))
    assert at.tolist() == truth.tolist()
    assert (n, at.dtype) == (number, torch.int64)


def test_many_random_numbers():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        shape = torch.randint(1, 7, (2,), generator=generator).tolist()
        ids = torch.randint(-1, 5, shape, generator=generator)
        for each in (ids, ids.flatten(), ids.to(torch.int32)):
            at, n = number_examples(each)
            truth, number = by_hand(each)
            assert at.tolist() == truth.tolist()
            assert n == number


def test_images_of_numbers():
    """Segments of an image: more dimensions than two number each first dimension for itself."""
    ids = torch.tensor([[[0, 0], [1, 1]], [[0, 1], [1, 1]]])
    at, n = number_examples(ids)
    assert at.tolist() == [[[0, 0], [1, 1]], [[2, 3], [3, 3]]]
    assert n == 4


@pytest.mark.parametrize("wrong", [torch.tensor([True]), torch.tensor([1.0]), torch.tensor([1], dtype=torch.uint8)])
def test_other_kinds_of_numbers_are_refused(wrong):
    with pytest.raises(TypeError, match="examples must be whole numbers"):
        number_examples(wrong)


def test_no_examples():
    assert number_examples(torch.full((2, 3), NONE))[1] == 0
    assert number_examples(torch.zeros(0, dtype=torch.int64))[1] == 0
    assert number_examples(torch.zeros((0, 3), dtype=torch.int64))[1] == 0


@pytest.mark.parametrize(
    ("positions", "truth"),
    [
        ([0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 1, NONE]),
        ([0, 1, 2, 3], [0, 0, 0, 0]),
        ([5, 6, 7, 0, 1], [0, 0, 0, 1, 1]),  # the row begins within a document
        ([0, 1, 1, 2], [0, 0, 1, 1]),
        ([0, 1, 0, 0, 0], [0, 0, NONE, NONE, NONE]),  # padding of positions 0
        ([0, 1, 3, 4], [0, 0, 1, 1]),
        ([0], [NONE]),
    ],
)
def test_documents_begin_where_positions_do_not_go_on(positions, truth):
    assert packed_ids(torch.tensor([positions])).tolist() == [truth]


def test_a_document_does_not_reach_into_the_next_row():
    found = packed_ids(torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert number_examples(found)[1] == 2


def test_the_examples_in_the_inputs_of_a_model():
    ids, packed = torch.zeros(2, 4, dtype=torch.int64), torch.tensor([[0, 1, 0, 1], [0, 1, 2, 3]])
    plain = torch.arange(4).expand(2, 4)
    assert examples_in([], {}) == (0, 0, None)
    assert examples_in([3, "text", torch.tensor(1.0)], {"flag": True}) == (0, 0, None)
    assert examples_in([torch.ones(3, 5)], {}, 1) == (5, 5, None)
    assert examples_in([torch.ones(3)], {"x": torch.ones(4, 6)}, 1) == (6, 6, None)  # the first has no dimension 1
    assert examples_in([], {"pixels": torch.ones(9, 2), "input_ids": ids}) == (2, 2, None)  # the known name counts
    assert examples_in([], {"input_ids": ids, "position_ids": plain}) == (2, 2, None)
    assert examples_in([], {"input_ids": ids, "position_ids": plain[:1]}) == (2, 2, None)
    assert examples_in([], {"input_ids": ids, "position_ids": packed, "attention_mask": ids}) == (2, 2, None)
    rows, n, at = examples_in([], {"input_ids": ids, "position_ids": packed, "attention_mask": None})
    assert (rows, n, at.tolist()) == (2, 3, [[0, 0, 1, 1], [2, 2, 2, 2]])
