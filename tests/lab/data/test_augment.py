"""Crops and flips: against a slow twin, every outcome exactly, and the real generator's statistics."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import reference
from msgd.lab.data.augment import crop_and_flip
from msgd.noise.streams import generator


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (4, 1, 7, 5), (3, 2, 1, 4), (1, 3, 32, 32), (0, 3, 4, 4)])
@pytest.mark.parametrize("pad", [0, 1, 2, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_as_its_slow_twin(shape, pad, layout):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    before = images.clone()
    for step in range(5):
        mine = crop_and_flip(images, pad, generator(0, step))
        assert torch.equal(mine, reference.crop_and_flip(images, pad, generator(0, step)))
        assert mine.is_contiguous(memory_format=layout)
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
def test_any_type_of_pixels(dtype):
    images = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6).to(dtype)
    mine = crop_and_flip(images, 2, generator(1, 0))
    assert mine.dtype == dtype
    assert torch.equal(mine, reference.crop_and_flip(images, 2, generator(1, 0)))


def test_a_slice_of_a_larger_tensor():
    images = torch.randn(6, 4, 9, 9, generator=torch.Generator().manual_seed(0))[::2, 1:, 1:, :7]
    assert torch.equal(crop_and_flip(images, 2, generator(2, 0)), reference.crop_and_flip(images, 2, generator(2, 0)))


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 7), slice(7, 7)])
def test_a_part_is_cropped_as_among_them_all(part):
    images = torch.rand(7, 3, 8, 8)
    whole = crop_and_flip(images, 2, generator(0, 0))
    assert torch.equal(crop_and_flip(images[part], 2, generator(0, 0), among=7, part=part), whole[part])


@pytest.mark.parametrize("pad", [0, 1])
def test_every_outcome_has_the_same_probability(pad):
    """Of two images at once, over all that the generator can say: ((2·pad+1)²·2)² outcomes, no two alike."""
    images = torch.arange(1.0, 51).reshape(2, 1, 5, 5)
    outcomes = reference.Branches().outcomes(lambda rng: crop_and_flip(images, pad, rng).numpy())
    probability = {image.tobytes(): p for p, image in outcomes}
    number = ((2 * pad + 1) ** 2 * 2) ** 2
    assert len(probability) == number
    np.testing.assert_allclose(list(probability.values()), 1 / number, rtol=1e-12)


N = 20_000
FALSE_ALARM = 1e-6


def tells(outcomes: np.ndarray, cells: int) -> bool:
    """Whether Pearson's χ² finds that the outcomes 0 … cells − 1 are not equally likely, at `FALSE_ALARM`."""
    counts = np.bincount(outcomes, minlength=cells)
    expected = len(outcomes) / cells
    return ((counts - expected) ** 2 / expected).sum() > chi2.isf(FALSE_ALARM, cells - 1)


def outcome(pad: int, rng) -> np.ndarray:
    """Place and flip of each of N images, as one number, read off the images themselves."""
    size = 2 * pad + 2
    image = torch.arange(1, size * size + 1).reshape(1, 1, size, size)
    cropped = crop_and_flip(image.expand(N, -1, -1, -1), pad, rng)[:, 0]
    values = cropped[:, pad, pad : pad + 2].numpy()  # inside the image wherever it was cropped
    flip = values[:, 0] > values[:, 1]
    down, right = np.divmod(values.min(axis=1) - 1, size)
    return (down * (2 * pad + 1) + right) * 2 + flip


class Faulty:
    """A generator with a fault, for the negative controls."""

    def __init__(self, fault: str) -> None:
        self.rng, self.fault = generator(0, 0), fault

    def integers(self, high: int, *, size: int) -> np.ndarray:
        if self.fault == "the last place is never drawn":
            return self.rng.integers(high - (high > 2), size=size)
        if self.fault == "the last place is drawn 20% too seldom":
            drawn = self.rng.integers(high, size=size)
            again = (drawn == high - 1) & (high > 2) & (self.rng.random(size) < 0.2)
            return np.where(again, self.rng.integers(high, size=size), drawn)
        if self.fault == "one draw for all images":
            return np.repeat(self.rng.integers(high, size=1), size)
        if self.fault == "the neighbour's draw again":
            return np.repeat(self.rng.integers(high, size=size // 2), 2)
        if self.fault == "flips 5% too often" and high == 2:
            return (self.rng.random(size) < 0.525).astype(np.int64)
        return self.rng.integers(high, size=size)


def biased(pad: int, rng) -> list[bool]:
    """Tests of one image's outcome, of its row, column and flip alone, and of two neighbours together."""
    side = 2 * pad + 1
    outcomes = outcome(pad, rng)
    places, flips = np.divmod(outcomes, 2)
    difference = (places[::2] - places[1::2]) % side**2  # all equally likely, if the two are independent
    return [
        bool(tells(values, cells))
        for values, cells in (
            (outcomes, side**2 * 2),
            (places // side, side),
            (places % side, side),
            (flips, 2),
            (difference, side**2),
        )
    ]


@pytest.mark.parametrize("pad", [2, 4])
def test_the_places_are_equally_likely(pad):
    """N = 20,000 images, five tests at a false-alarm rate of 10⁻⁶ each; the seed is fixed."""
    assert biased(pad, generator(0, 0)) == [False] * 5


@pytest.mark.parametrize(
    "fault",
    [
        "the last place is never drawn",
        "the last place is drawn 20% too seldom",
        "one draw for all images",
        "the neighbour's draw again",
        "flips 5% too often",
    ],
)
@pytest.mark.parametrize("pad", [2, 4])
def test_a_faulty_draw_fails_the_same_test(pad, fault):
    assert any(biased(pad, Faulty(fault)))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"shape \(n, channels, height, width\), not \(3, 8, 8\)"):
        crop_and_flip(torch.zeros(3, 8, 8), 2, generator(0, 0))
    with pytest.raises(ValueError, match="0 or more, not -1"):
        crop_and_flip(torch.zeros(1, 3, 8, 8), -1, generator(0, 0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_sees_the_same():
    images = torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mine = crop_and_flip(images.cuda().contiguous(memory_format=torch.channels_last), 4, generator(0, 0))
    assert mine.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mine.cpu(), crop_and_flip(images, 4, generator(0, 0)))
