"""Tiny Shakespeare: what is read from its text, and what is refused."""

import numpy as np
import pytest

from helpers.small import write_shakespeare
from msgd.lab.data import shakespeare
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError


def write(folder, text: str, name: str = "input.txt"):
    (folder / name).write_bytes(text.encode())
    return folder


def read(folder):
    return load_data("shakespeare", data_dir=folder)


def text_of(codes, vocabulary: str) -> str:
    return "".join(vocabulary[code] for code in codes)


@pytest.mark.parametrize("length", [641, 1000, 1930])
def test_examples_are_windows_and_targets_the_next_characters(tmp_path, length):
    rng = np.random.default_rng(length)
    text = "".join(rng.choice(list("zyx äöü\n€𝄞"), size=length))  # one to four bytes for each character
    data = read(write(tmp_path, text))
    vocabulary = "\n xyzäöü€𝄞"  # in the order of code points
    assert data.classes == 10
    train, test = text[: int(0.9 * length)], text[int(0.9 * length) :]
    for part, inputs, targets in (
        (train, data.train_inputs, data.train_targets),
        (test, data.test_inputs, data.test_targets),
    ):
        starts = [start for start in range(0, length, 64) if start + 65 <= len(part)]
        assert [text_of(row, vocabulary) for row in inputs] == [part[start : start + 64] for start in starts]
        assert [text_of(row, vocabulary) for row in targets] == [part[start + 1 : start + 65] for start in starts]
        assert inputs.dtype == targets.dtype == np.int64


def test_either_name_is_found(tmp_path):
    digest = read(write_shakespeare(tmp_path)).digest()
    (tmp_path / "input.txt").rename(tmp_path / "tinyshakespeare.txt")
    assert read(tmp_path).digest() == digest
    write(tmp_path, "another text " * 60)
    assert read(tmp_path).digest() != digest  # the official name counts


@pytest.mark.parametrize("name", ["input.txt", "tinyshakespeare.txt"])
def test_a_text_of_the_official_size_must_be_the_official_one(tmp_path, name):
    size, _ = shakespeare.SOURCE.files["input.txt"]
    with pytest.raises(UserError, match=rf"{name} is damaged: it has the official size but the wrong checksum"):
        read(write(tmp_path, "a" * size, name))
    read(write(tmp_path, "a" * (size - 1), name))


def test_limits(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds 640 characters, and at least 641 are needed"):
        read(write(tmp_path, "ab" * 320))
    assert len(read(write(tmp_path, "ab" * 320 + "a")).test_inputs) == 1
    characters = "".join(map(chr, range(0x100, 0x201)))  # 257
    assert read(write(tmp_path, 3 * characters[:256])).classes == 256
    with pytest.raises(UserError, match="holds 257 different characters; use a text with at most 256"):
        read(write(tmp_path, 3 * characters))
    monkeypatch.setattr(shakespeare, "LIMIT", 700)
    read(write(tmp_path, "a" * 700))
    with pytest.raises(UserError, match="more than 700 bytes"):
        read(write(tmp_path, "a" * 701))


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "input.txt").write_bytes(b"to be " * 200 + b"\xff")
    with pytest.raises(UserError, match=r"input.txt cannot be read \('utf-8' codec .*: fetch it again") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "input.txt").unlink()
    (tmp_path / "input.txt").mkdir()
    with pytest.raises(UserError, match="not a regular file"):
        read(tmp_path)
