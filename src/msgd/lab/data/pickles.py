"""Read pickles of lists, dictionaries, text and arrays of bytes safely.

A pickle is a program that can call every function it can name. Here it can name only five functions and classes, and
each is replaced by a stand-in from this file, so that a pickle cannot call even NumPy.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from msgd.lab.data.download import LIMIT, Array, unreadable_message
from msgd.lab.errors import UserError

OPCODES = 10**6  #: largest number of opcodes; one byte creates a list of 60. The official files have fewer than 300,000
MEMO = 2**20  #: largest number of a memoised object; Python allocates space for all numbers up to the largest


def unpickle(content: bytes, where: str) -> Any:
    """Read a pickle; text from Python 2 becomes bytes.

    Args:
        content: the pickle.
        where: name of the pickle in messages.

    Returns:
        The object; arrays are of type `ByteArray`.

    Raises:
        UserError: the pickle is damaged, or names a function or class that arrays of bytes do not need.
    """
    try:
        return _Reader(content, where).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(unreadable_message(where, error)) from error


class ByteArray:
    """A stand-in for an array that is being unpickled; `value` is the array, of dtype uint8."""

    __slots__ = ("value",)

    def __init__(self, *_: object) -> None:  # type, shape and dtype of an empty array, which `__setstate__` fills
        self.value: Array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, Any, Any, Any, Any]) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Uint8) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not of bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
        if self.value.shape != shape:  # reshape computes a negative size from the others
            raise pickle.UnpicklingError(f"an array of shape {shape!r}")


class _Uint8:
    """A stand-in for the dtype of an array."""

    __slots__ = ()

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {name!r}, not of bytes")

    def __setstate__(self, state: object) -> None:  # byte order and fields, which do not matter for single bytes
        pass


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._where = where
        self._encoded = 0
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if number >= OPCODES:
                raise pickle.UnpicklingError(f"more than {OPCODES} opcodes")
            if opcode.name in ("PUT", "LONG_BINPUT") and (argument is None or argument > MEMO):
                raise pickle.UnpicklingError(f"an object numbered {argument}")

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.core.multiarray._reconstruct": ByteArray,
            "numpy._core.multiarray._reconstruct": ByteArray,
            "numpy.ndarray": ByteArray,
            "numpy.dtype": _Uint8,
            "_codecs.encode": self._encode,  # protocol 2 stores bytes in this way
        }
        try:
            return known[f"{module}.{name}"]
        except KeyError:
            raise UserError(
                f"{self._where} asks to run {module}.{name}, which data never need: the file is hostile or damaged "
                "and was not run; fetch the official file"
            ) from None

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in {encoding!r}")
        self._encoded += len(text)
        if self._encoded > LIMIT:
            raise pickle.UnpicklingError(f"more than {LIMIT} bytes")
        return text.encode("latin1")
