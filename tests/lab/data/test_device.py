"""Data sets by name: what is loaded, what is refused, and how pixels become floats."""

import tracemalloc

import numpy as np
import pytest
import torch

from msgd.lab.data.device import CHUNK, on_device, pixel_statistics
from msgd.lab.data.load import load_data
from msgd.lab.training.sgd import select_examples

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_make_convolutions_channels_last(channels):
    """Of one channel too, where both layouts are the same numbers: convolutions were 1.6 times slower otherwise."""
    images = np.random.default_rng(0).integers(256, size=(9, channels, 28, 28), dtype=np.uint8)
    x, _ = on_device(images, np.zeros(9), CPU)
    convolution = torch.nn.Conv2d(channels, 10, 5)
    for part in (x, x[2:5], select_examples(x, torch.tensor([1, 4, 7]))):
        output = convolution(part)
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert not output.is_contiguous()
    assert torch.equal(x, torch.from_numpy(images).float().div_(255))


def test_pixels_are_scaled_and_images_channels_last(fashion_mnist):
    data = load_data("fashion-mnist", data_dir=fashion_mnist)
    x, y = on_device(data.train_inputs, data.train_targets, CPU)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, torch.from_numpy(data.train_inputs / np.float32(255)))
    assert y.tolist() == data.train_targets.tolist()
    floats = np.array([[0.5, 2.0]], dtype=np.float32)
    assert on_device(floats, np.array([1]), CPU)[0].tolist() == floats.tolist()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(30, 200, size=(40, 3, 5, 6), dtype=np.uint8)


def test_pixels_raw_or_standardised(images):
    targets = np.zeros(len(images), np.int64)
    raw, _ = on_device(images, targets, CPU, "raw")
    assert (raw.dtype, raw.tolist()) == (torch.float32, images.tolist())
    train, test = images[:30], images[30:]
    statistics = pixel_statistics(train)
    wide = train.astype(np.float64)
    mean, std = wide.mean(axis=(0, 2, 3)), wide.std(axis=(0, 2, 3))  # of the training images, for both
    for part in (train, test):
        x, _ = on_device(part, targets, CPU, "standard", statistics=statistics)
        assert x.is_contiguous(memory_format=torch.channels_last)
        expected = (part - mean[:, None, None]) / std[:, None, None]
        np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-6)


def test_statistics_over_several_chunks_are_exact():
    images = np.random.default_rng(1).integers(256, size=(2 * CHUNK + 7, 2, 3, 3), dtype=np.uint8)
    wide = images.astype(np.float64)
    mean, std = pixel_statistics(images)
    assert mean.tolist() == wide.mean(axis=(0, 2, 3)).astype(np.float32).tolist()
    assert std.tolist() == wide.std(axis=(0, 2, 3)).astype(np.float32).tolist()


def test_statistics_need_little_memory():
    images = np.zeros((20 * CHUNK, 3, 32, 32), np.uint8)
    tracemalloc.start()
    pixel_statistics(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 3  # as float64 they would need eight times their bytes


def test_a_channel_of_one_value_becomes_zero(images):
    images[:, 1] = 77
    x, _ = on_device(images, np.zeros(40), CPU, "standard", statistics=pixel_statistics(images))
    assert x[:, 1].abs().max() == 0
    assert x[:, [0, 2]].std() > 0.9


@pytest.mark.parametrize("pixels", ["unit", "raw", "standard"])
def test_numbers_that_are_no_pixels_keep_their_values(pixels):
    floats = np.random.default_rng(2).normal(size=(9, 40)).astype(np.float32)
    x, _ = on_device(floats, np.zeros(9), CPU, pixels, statistics=pixel_statistics(floats))
    assert x.tolist() == floats.tolist()


def test_unknown_pixels_and_missing_statistics(images):
    with pytest.raises(ValueError, match="none of unit, raw, standard"):
        on_device(images, np.zeros(40), CPU, "grey")
    with pytest.raises(ValueError, match="pixel_statistics"):
        on_device(images, np.zeros(40), CPU, "standard")
