"""Pickles of data: read as Python reads them, and never obeyed."""

import contextlib
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import python
from helpers.small import cifar_batch, python2_pickle
from msgd.lab.data import pickles
from msgd.lab.data.pickles import ByteArray, unpickle
from msgd.lab.errors import UserError


@pytest.fixture
def batch():
    return cifar_batch(12, classes=10, key=b"labels", seed=0)


def same(read, batch):
    assert isinstance(read[b"data"], ByteArray)
    assert read[b"data"].value.dtype == np.uint8
    np.testing.assert_array_equal(read[b"data"].value, batch[b"data"])
    rest = {key: value for key, value in read.items() if key != b"data"}
    assert rest == {key: value for key, value in batch.items() if key != b"data"}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_pickles_of_todays_python(batch, protocol):
    same(unpickle(pickle.dumps(batch, protocol=protocol), "here"), batch)


def test_pickles_of_python_2(batch):
    content = python2_pickle(batch)
    np.testing.assert_array_equal(pickle.loads(content, encoding="bytes")[b"data"], batch[b"data"])
    same(unpickle(content, "here"), batch)


def test_arrays_by_columns():
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert unpickle(pickle.dumps(array, protocol=2), "here").value.tolist() == array.tolist()


def test_arrays_of_any_shape_are_as_large_as_their_bytes():
    for shape in ((0,), (0, 3072), (1,), (2, 3, 4)):
        array = np.zeros(shape, np.uint8)
        assert unpickle(pickle.dumps(array, protocol=3), "here").value.shape == shape


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": lambda target: Calls(os.system, f"touch {target}"),
    "eval": lambda target: Calls(eval, f"open({str(target)!r}, 'w')"),
    "exec": lambda target: Calls(exec, f"open({str(target)!r}, 'w')"),
    "getattr": lambda target: Calls(getattr, target, "touch"),
    "subprocess": lambda target: Calls(subprocess.check_call, ["touch", str(target)]),
    "pathlib": lambda target: Calls(Path.touch, target),
    "numpy": lambda target: Calls(np.save, str(target), 0),
    "fromfile": lambda target: Calls(np.fromfile, str(target)),
    "array": lambda _: Calls(np.zeros, 2**40),
    "bytearray": lambda _: Calls(bytearray, 2**40),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_do_not_run(tmp_path, kind, protocol):
    target = tmp_path / "ran"
    content = pickle.dumps([1, HOSTILE[kind](target)], protocol=protocol)
    with pytest.raises(UserError, match=r"^here asks to run .* was not run; fetch the official file$"):
        unpickle(content, "here")
    assert not any(tmp_path.iterdir())


UINT8 = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
HUGE = b"\x8a\x06" + (2**40).to_bytes(6, "little")
#: programs that misuse what may be named
ABUSES = {
    "a persistent object": b"Pmine\n.",
    "a numbered persistent object": b"K\x01Q.",
    "an extension": b"\x82\x01.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "a stand-in by its own name": b"cmsgd.lab.data_sets.pickles\nByteArray\n.",
    "an array of objects": EMPTY + b"(K\x01K\x01\x85cnumpy\ndtype\n(U\x02O8K\x00K\x01tRK\x00]tb.",
    "an array of numbers": EMPTY + b"(K\x01K\x01\x85cnumpy\ndtype\n(U\x02f8K\x00K\x01tRK\x00U\x08" + bytes(8) + b"tb.",
    "a huge shape": EMPTY + b"(K\x01" + HUGE + b"\x85" + UINT8 + b"K\x00U\x01atb.",
    "a negative shape": EMPTY + b"(K\x01J\xfe\xff\xff\xff\x85" + UINT8 + b"K\x00U\x02aatb.",
    "content that is no bytes": EMPTY + b"(K\x01K\x01\x85" + UINT8 + b"K\x00K\x01tb.",
    "content that is an array": EMPTY + b"(K\x01K\x01\x85" + UINT8 + b"K\x00" + EMPTY + b"tb.",
    "a state too short": EMPTY + b"(K\x01tb.",
    "a state that is no tuple": EMPTY + b"K\x01b.",
    "a state for the class": b"cnumpy\nndarray\n}b.",
    "a state for a method": b"c_codecs\nencode\n(N}U\x08__call__K\x01stb.",
    "another encoding": b"c_codecs\nencode\n(V\\u0041\nVrot13\ntR.",
    "a type without a name": b"cnumpy\ndtype\n)R.",
    "an object far away": b"K\x01r\xff\xff\xff\x7f.",
    "an object far away in digits": b"K\x01p99999999999\n.",
    "an object that is not there": b"h\x07.",
    "a number of many digits": b"I" + b"9" * 10_000 + b"\n.",
    "text longer than the file": b"T\xff\xff\xff\x7fabc.",
    "an empty stack": b"0.",
    "no end": b"K\x01",
    "a protocol to come": b"\x80\x63N.",
    "an unhashable key": b"}]K\x01s.",
}


@pytest.mark.parametrize("kind", ABUSES)
def test_abuse_of_what_may_be_named(kind):
    with pytest.raises(UserError, match=r"^here ") as caught:
        unpickle(ABUSES[kind], "here")
    assert "fetch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_huge_array_yet_to_be_filled_takes_no_memory():
    content = EMPTY.replace(b"K\x00\x85", HUGE + b"\x85") + b"."
    assert unpickle(content, "here").value.size == 0


def test_bytes_multiplied_by_calls_are_bounded(monkeypatch):
    monkeypatch.setattr(pickles, "LIMIT", 1000)
    text = b"X" + struct.pack("<I", 100) + b"a" * 100
    call = b"c_codecs\nencode\n(" + text + b"X\x06\x00\x00\x00latin1tR"
    assert unpickle(b"](" + call * 10 + b"e.", "here") == [b"a" * 100] * 10
    with pytest.raises(UserError, match="more than 1000 bytes"):
        unpickle(b"](" + call * 11 + b"e.", "here")


def test_objects_of_one_byte_each_are_bounded(monkeypatch):
    """An empty list is a byte in a pickle and 60 in memory."""
    monkeypatch.setattr(pickles, "OPCODES", 103)
    assert unpickle(b"(" + b"]" * 100 + b"l.", "here") == [[]] * 100
    with pytest.raises(UserError, match="more than 103 opcodes"):
        unpickle(b"(" + b"]" * 101 + b"l.", "here")


def test_what_a_pickle_does_to_the_stand_ins_does_not_last(batch):
    """BUILD on a name writes its attributes; the next pickle must not see them."""
    for name in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"):
        for state in (b"}U\x05value", b"}U\x0c__setstate__", b"}U\x08__init__"):
            with contextlib.suppress(UserError):
                unpickle(name + state + b"K\x01sb.", "here")
            same(unpickle(python2_pickle(batch), "here"), batch)


def test_every_damage_is_an_error_of_one_line_or_read():
    """Seeded: 2000 pickles with one to three bytes changed, and one cut short at every place of a small one."""
    rng = np.random.default_rng(0)
    content = python2_pickle(cifar_batch(1, classes=10, key=b"labels", seed=0) | {b"data": np.zeros((1, 4), np.uint8)})
    damaged = [content[:end] for end in range(len(content))]
    for _ in range(2000):
        bytes_ = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            bytes_[place] = rng.integers(256)
        damaged.append(bytes(bytes_))
    messages = []
    for each in damaged:
        try:
            unpickle(each, "here")
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > len(damaged) / 2
    assert not any("\n" in message for message in messages)


def test_the_module_never_imports_what_a_pickle_names():
    """In a process of its own: a name that is refused is not even imported."""
    code = (
        "import sys; from msgd.lab.errors import UserError; from msgd.lab.data.pickles import unpickle\n"
        "try:\n    unpickle(b'cthis\\ns\\n.', 'here')\n"
        "except UserError as error:\n    print(error, 'this' in sys.modules)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("here asks to run this.s")
    assert done.stdout.strip().endswith("False")
