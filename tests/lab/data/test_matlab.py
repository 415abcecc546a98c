"""MATLAB 5 files: numbers as scipy reads them, and no harm from the others."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from msgd.lab.data import matlab
from msgd.lab.data.matlab import read_arrays

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def saved(variables: dict, *, compressed: bool = True) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (5, 1), (2, 3, 4), (4, 3, 2, 7), (3, 0)])
def test_numbers_are_read_as_scipy_reads_them(shape, compressed):
    rng = np.random.default_rng(0)
    variables = {f"a_{kind}": rng.integers(100, size=shape).astype(kind) for kind in TYPES}
    others = {
        "text": "hello",
        "cell": np.array([[1, "a"]], dtype=object),
        "record": {"a": 1},
        "flags": np.ones((2, 2)) > 0,
    }
    content = saved(variables | others, compressed=compressed)
    arrays = read_arrays(content, variables)
    theirs = loadmat(io.BytesIO(content))
    assert arrays.keys() == variables.keys()
    for name, array in arrays.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name])
    assert read_arrays(content, ["a_u1"]).keys() == {"a_u1"}
    assert read_arrays(content, ["elsewhere"]) == {}


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(shape=(2, 3), body=None, mclass=9, name=b"X") -> bytes:
    """A file with one variable whose header may say what its body does not hold."""
    body = element(2, bytes(6)) if body is None else body
    head = element(6, struct.pack("<II", mclass, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return HEADER + element(14, head + element(1, name) + body)


HEADER = saved({})[:128]


def test_a_double_may_be_stored_in_a_byte():
    """So does MATLAB itself, for whole numbers such as SVHN's labels; short ones stand in the place of their size."""
    assert read_arrays(variable(mclass=6), ["X"])["X"].tolist() == [[0] * 3] * 2
    small = struct.pack("<HH4s", 2, 3, bytes([5, 6, 7, 0]))
    content = variable((3, 1), small, mclass=6)
    assert read_arrays(content, ["X"])["X"].tolist() == loadmat(io.BytesIO(content))["X"].tolist() == [[5], [6], [7]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a MATLAB 5 file"),
        (HEADER[:100], "not a MATLAB 5 file"),
        (HEADER[:124] + b"\x01\x00MI", "not a MATLAB 5 file"),  # big-endian
        (HEADER + b"abc", "truncated"),
        (HEADER + bytes(8), "a variable of type 0"),
        (HEADER + element(14, b""), "truncated"),
        (HEADER + element(15, zlib.compress(b"")), "truncated"),
        (HEADER + element(15, zlib.compress(element(15, b"12345678"))), "a variable of type 15"),
        (HEADER + struct.pack("<II", 14, 2**32 - 1), "truncated"),
        (variable(body=b""), "truncated"),
        (variable(body=struct.pack("<II", 2, 2**31)), "truncated"),
        (variable(body=struct.pack("<HH4s", 2, 6, bytes(4)) + bytes(8)), "truncated"),
        (variable(body=element(14, bytes(6))), "numbers of type 14"),
        (variable(body=element(99, bytes(6))), "numbers of type 99"),
        (variable(body=element(9, bytes(6))), "buffer size"),
        (variable((2, 4)), "reshape"),
        (variable((2**31 - 1,) * 4), "reshape|too big|too large"),
        (variable((-1, 3)), "shape"),
        (variable((2, -3)), "shape"),
        (variable((1,) * 70 + (6,)), "dimension"),
        (variable(mclass=1), "not an array of real numbers"),
        (variable(mclass=3), "not an array of real numbers"),
        (variable(mclass=17), "not an array of real numbers"),
    ],
    ids=lambda value: "file" if isinstance(value, bytes) else None,  # a header tells the time
)
def test_what_cannot_be_read(content, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(content, ["X"])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_variables_that_inflate_beyond_the_limit(monkeypatch, times):
    """Also those that nobody asked for, all of them together; and when exactly nothing of the limit is left."""
    body = saved({"a": np.zeros((1, 1000), np.uint8)})[128:]
    size = len(zlib.decompress(body[8:]))
    for limit in (times * size, times * size - 1, (times - 1) * size):
        monkeypatch.setattr(matlab, "LIMIT", limit)
        if limit == times * size:
            assert read_arrays(HEADER + body * times, ["b"]) == {}
        else:
            with pytest.raises(ValueError, match=f"more than {limit} bytes"):
                read_arrays(HEADER + body * times, ["b"])


def test_every_damage_is_an_error_or_read():
    """Seeded: 5000 files with one to three bytes changed, which can crash scipy.io.loadmat; one cut short anywhere."""
    rng = np.random.default_rng(0)
    content = saved({"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.ones((2, 1))}, compressed=False)
    refused = 0
    for _ in range(5000):
        damaged = bytearray(content)
        for place in rng.integers(128, len(content), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            read_arrays(bytes(damaged), ["X", "y"])
        except ValueError:
            refused += 1
    assert refused > 1000
    second = len(saved({"X": np.zeros((2, 2, 3, 2), np.uint8)}, compressed=False))
    for end in set(range(len(content))) - {128, second}:  # between two variables, what is left is a file
        with pytest.raises(ValueError, match=r"truncated|not a MATLAB 5 file"):
            read_arrays(content[:end], ["X", "y"])
