"""Fashion-MNIST: what is read from its IDX files, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from helpers.small import write_fashion_mnist, write_idx
from msgd.lab.data.fashion_mnist import SOURCE, read_idx
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError


def test_fashion_mnist_trains_on_the_official_test_images(fashion_mnist):
    data = load_data("fashion-mnist", n=40, data_dir=fashion_mnist)
    assert data.train_inputs.shape == (40, 1, 28, 28)
    assert data.test_inputs.shape == (50, 1, 28, 28)
    assert data.n == 40
    official = read_idx(fashion_mnist / "t10k-images-idx3-ubyte.gz", ndim=3)
    np.testing.assert_array_equal(data.train_inputs[:, 0], official[:40])


def test_files_may_be_unpacked(tmp_path):
    write_fashion_mnist(tmp_path)
    packed = load_data("fashion-mnist", data_dir=tmp_path)
    for path in list(tmp_path.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load_data("fashion-mnist", data_dir=tmp_path).digest() == packed.digest()


@pytest.mark.skipif(not SOURCE.system_folder.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist():
    data = load_data("fashion-mnist", n=1000)
    assert data.train_inputs.shape == (1000, 1, 28, 28)
    assert data.test_inputs.shape == (60_000, 1, 28, 28)
    assert np.bincount(data.test_targets).tolist() == [6000] * 10
    assert data.train_targets[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as published


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
        ("huge", "truncated"),
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
        load_data("fashion-mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
