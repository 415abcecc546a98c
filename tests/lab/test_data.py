"""Data sets: what is loaded, and what is refused."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from msgd.errors import UserError
from msgd.lab.data import DEBIAN_FASHION_MNIST, Data, load, on_device, read_idx
from small import write_fashion_mnist, write_idx


def test_mnist1d_is_the_packages_own():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate()[1][:3], np.random.get_state()[1][:3].tolist()
    data = load("mnist1d", n=1000)
    assert (random.getstate()[1][:3], np.random.get_state()[1][:3].tolist()) == before
    from mnist1d.data import make_dataset

    made = make_dataset()
    np.testing.assert_array_equal(data.train_inputs, made["x"][:1000].astype(np.float32))
    np.testing.assert_array_equal(data.test_targets, made["y_test"])
    assert data.train_inputs.shape == (1000, 40)
    assert data.test_inputs.shape == (1000, 40)
    fewer = Data(data.train_inputs[:999], data.train_targets[:999], data.test_inputs, data.test_targets, 10)
    assert data.digest() == load("mnist1d", n=1000).digest()
    assert data.digest() != fewer.digest()


def test_fashion_mnist_trains_on_the_official_test_images(fashion_mnist):
    data = load("fashion-mnist", n=40, data_dir=fashion_mnist)
    assert data.train_inputs.shape == (40, 1, 28, 28)
    assert data.test_inputs.shape == (50, 1, 28, 28)
    assert data.n == 40
    official = read_idx(fashion_mnist / "t10k-images-idx3-ubyte.gz", ndim=3)
    np.testing.assert_array_equal(data.train_inputs[:, 0], official[:40])


def test_files_may_be_unpacked(tmp_path):
    write_fashion_mnist(tmp_path)
    packed = load("fashion-mnist", data_dir=tmp_path)
    for path in list(tmp_path.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load("fashion-mnist", data_dir=tmp_path).digest() == packed.digest()


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist():
    data = load("fashion-mnist", n=1000)
    assert data.train_inputs.shape == (1000, 1, 28, 28)
    assert data.test_inputs.shape == (60_000, 1, 28, 28)
    assert np.bincount(data.test_targets).tolist() == [6000] * 10
    assert data.train_targets[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as published


def test_pixels_are_scaled_and_images_channels_last(fashion_mnist):
    data = load("fashion-mnist", data_dir=fashion_mnist)
    x, y = on_device(data.train_inputs, data.train_targets, torch.device("cpu"))
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, torch.from_numpy(data.train_inputs / np.float32(255)))
    assert y.tolist() == data.train_targets.tolist()
    floats = np.array([[0.5, 2.0]], dtype=np.float32)
    assert on_device(floats, np.array([1]), torch.device("cpu"))[0].tolist() == floats.tolist()


def damage(path: Path, kind: str) -> None:
    if kind == "truncated archive":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "truncated content":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5]))
    elif kind == "not gzip":
        path.write_bytes(b"<html>404</html>")
    elif kind == "wrong magic":
        path.write_bytes(gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(path.read_bytes())[4:]))
    elif kind == "huge":
        path.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + b"\0" * 100))
    elif kind == "wrong size":
        write_idx(path, np.zeros((60, 27, 28)))
    elif kind == "fewer images":
        write_idx(path, np.zeros((59, 28, 28)))
    elif kind == "none":
        write_idx(path, np.zeros((0, 28, 28)))
        write_idx(path.parent / "t10k-labels-idx1-ubyte.gz", np.zeros(0))
    elif kind == "label":
        write_idx(path.parent / "t10k-labels-idx1-ubyte.gz", np.full(60, 10))
    elif kind == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated archive", "cannot be read"),
        ("truncated content", "truncated"),
        ("not gzip", "cannot be read"),
        ("wrong magic", "not an IDX file"),
        ("huge", "damaged"),
        ("wrong size", "27×28"),
        ("fewer images", "59 images and 60 labels"),
        ("none", "0 images"),
        ("label", "label 10"),
        ("missing", "holds neither"),
    ],
)
def test_damaged_files_are_refused(tmp_path, kind, message):
    write_fashion_mnist(tmp_path)
    damage(tmp_path / "t10k-images-idx3-ubyte.gz", kind)
    with pytest.raises(UserError, match=message) as caught:
        load("fashion-mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_too_large_n(fashion_mnist, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load("fashion-mnist", data_dir=tmp_path / "nowhere")
    with pytest.raises(UserError, match="has 60 training examples"):
        load("fashion-mnist", n=61, data_dir=fashion_mnist)


def test_a_failed_download_names_the_remedies(monkeypatch, tmp_path):
    import pooch

    from msgd.lab import data

    def refuse(url, **_):
        raise ConnectionError(url)

    monkeypatch.setattr(data, "DEBIAN_FASHION_MNIST", tmp_path)
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(UserError, match=r"dataset-fashion-mnist, or give --data-dir"):
        load("fashion-mnist")


def test_a_wrong_checksum_is_refused(monkeypatch, tmp_path):
    """The real pooch, over a file:// address: content that is not the official archive must not be used."""
    from msgd.lab import data

    served = write_fashion_mnist(tmp_path / "served")
    monkeypatch.setattr(data, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    monkeypatch.setattr(data, "FASHION_MNIST_URL", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    import pooch

    class Copy:
        def __call__(self, url, output_file, pooch):  # noqa: ARG002 - pooch's signature
            Path(output_file).write_bytes((served / url).read_bytes())

    original = pooch.retrieve
    monkeypatch.setattr(pooch, "retrieve", lambda url, **kw: original(url, downloader=Copy(), **kw))
    with pytest.raises(UserError, match="could not be downloaded"):
        load("fashion-mnist")


def test_data_holds_its_shape():
    data = Data(np.zeros((3, 4), np.float32), np.zeros(3, np.int64), np.zeros((2, 4), np.float32), np.zeros(2), 10)
    assert (data.n, data.input_shape) == (3, (4,))
