"""SVHN: what is read from its MATLAB files, and what is refused."""

import io

import numpy as np
import pytest
from scipy.io import savemat

from helpers.small import svhn_split, write_mat, write_svhn
from msgd.lab.data import svhn
from msgd.lab.data.load import load_data
from msgd.lab.data.svhn import TEST, TRAIN
from msgd.lab.errors import UserError


def test_it_trains_on_official_test_images_and_reads_them_exactly(tmp_path):
    write_svhn(tmp_path, train=60, test=50)
    data = load_data("svhn", data_dir=tmp_path)
    for inputs, targets, official in (
        (data.train_inputs, data.train_targets, svhn_split(60, seed=0)),
        (data.test_inputs, data.test_targets, svhn_split(50, seed=1)),
    ):
        assert inputs.flags.c_contiguous
        for i in range(len(targets)):
            for channel in range(3):
                np.testing.assert_array_equal(inputs[i, channel], official["X"][:, :, channel, i])
            assert targets[i] == (0 if official["y"][i, 0] == 10 else official["y"][i, 0])
    assert set(data.train_targets.tolist()) == set(range(10))


def test_only_the_papers_numbers_of_images(monkeypatch, tmp_path):
    assert (TRAIN, TEST) == (25_000, 70_000)
    write_svhn(tmp_path, train=60, test=50)
    everything = load_data("svhn", data_dir=tmp_path)
    monkeypatch.setattr(svhn, "TRAIN", 25)
    monkeypatch.setattr(svhn, "TEST", 40)
    data = load_data("svhn", data_dir=tmp_path)
    np.testing.assert_array_equal(data.train_inputs, everything.train_inputs[:25])
    np.testing.assert_array_equal(data.train_targets, everything.train_targets[:25])
    np.testing.assert_array_equal(data.test_inputs, everything.test_inputs[:40])
    np.testing.assert_array_equal(data.test_targets, everything.test_targets[:40])


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.uint16])
@pytest.mark.parametrize("compressed", [True, False])
def test_labels_of_any_number_type_and_uncompressed_files(tmp_path, kind, compressed):
    """MATLAB calls SVHN's labels double, whatever it stores them as."""
    write_svhn(tmp_path)
    before = load_data("svhn", data_dir=tmp_path).digest()
    split = svhn_split(60, seed=0)
    variables = {"other": ["text"], "X": split["X"], "y": split["y"].astype(kind)}
    savemat(tmp_path / "test_32x32.mat", variables, do_compression=compressed)
    assert load_data("svhn", data_dir=tmp_path).digest() == before


def changed(path, kind: str) -> None:
    split = svhn_split(60, seed=0)
    content = path.read_bytes()
    strange = {
        "no y": {"X": split["X"]},
        "floats": {"X": split["X"] / 255, "y": split["y"]},
        "cells": {"X": np.array([[split["X"], "a"]], dtype=object), "y": split["y"]},
        "cell labels": {"X": split["X"], "y": np.array([[1, "a"]], dtype=object)},
        "text labels": {"X": split["X"], "y": np.array(["a"] * 60)},
        "complex labels": {"X": split["X"], "y": split["y"] * (1 + 0j)},
        "two columns": {"X": split["X"], "y": np.repeat(split["y"], 2, axis=1)},
        "flat images": {"X": split["X"].reshape(-1, 60), "y": split["y"]},
        "wrong size": {"X": split["X"][:31], "y": split["y"]},
        "images first": {"X": split["X"].transpose(3, 2, 0, 1), "y": split["y"]},
        "fewer images": {"X": split["X"][..., :59], "y": split["y"]},
        "none": {"X": split["X"][..., :0], "y": split["y"][:0]},
        "label 0": {"X": split["X"], "y": split["y"] % 10},
        "label 11": {"X": split["X"], "y": split["y"] + 1},
        "label 1.5": {"X": split["X"], "y": split["y"] - 0.5},
    }
    if kind in strange:
        write_mat(path, strange[kind])
    elif kind == "truncated":
        path.write_bytes(content[:-100])
    elif kind == "truncated header":
        path.write_bytes(content[:100])
    elif kind == "not matlab":
        path.write_bytes(b"<html>404</html>" * 20)
    elif kind == "version 7.3":
        path.write_bytes(content[:124] + b"\x00\x02IM" + content[128:])
    elif kind == "damaged":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(50) + content[middle + 50 :])
    elif kind == "version 4":
        file = io.BytesIO()
        savemat(file, {"X": np.zeros((3, 3))}, format="4")
        path.write_bytes(file.getvalue().ljust(200, b"\0"))
    elif kind == "twice":
        path.write_bytes(content + content[128:])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        *((kind, "is not SVHN's") for kind in ("no y", "floats", "two columns", "flat images")),
        ("cells", "X is not an array of real numbers"),
        *((kind, "y is not an array of real numbers") for kind in ("cell labels", "text labels", "complex labels")),
        ("twice", "X occurs twice"),
        ("wrong size", "3×31×32, not 3×32×32"),
        ("images first", "32 images and 60 labels"),
        ("fewer images", "59 images and 60 labels"),
        ("none", "0 images"),
        ("label 0", "label 0; labels are 1 … 10"),
        ("label 11", "label 11; labels are 1 … 10"),
        ("label 1.5", r"label \d+\.5; labels are 1 … 10"),
        ("truncated", "truncated"),
        ("truncated header", "not a MATLAB 5 file"),
        ("not matlab", "not a MATLAB 5 file"),
        ("version 7.3", "not a MATLAB 5 file"),
        ("version 4", "not a MATLAB 5 file"),
        ("damaged", "cannot be read"),
    ],
)
def test_damaged_and_strange_files_are_refused(tmp_path, kind, message):
    path = write_svhn(tmp_path) / "test_32x32.mat"
    changed(path, kind)
    with pytest.raises(UserError, match=message) as caught:
        load_data("svhn", data_dir=tmp_path)
    assert str(path) in str(caught.value)
    assert "fetch" in str(caught.value)
    assert "\n" not in str(caught.value)
