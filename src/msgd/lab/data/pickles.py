"""Pickles of lists, dictionaries, text and arrays of bytes: read, and never obeyed.

A pickle is a program that may call anything it can name. Here it can name five things, and each is a stand-in from this
file, so that not even NumPy runs on what a pickle asks for.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from msgd.lab.data.download import LIMIT, Array, unreadable
from msgd.lab.errors import UserError

OPCODES = 10**6  #: of a pickle: one byte makes an empty list of 60; the official files have fewer than 300,000
MEMO = 2**20  #: numbers that a pickle may give to its objects; Python sets aside room for all up to the largest


def unpickle(content: bytes, where: str) -> Any:
    """Read a pickle, with Python 2's text as bytes.

    Args:
        content: the pickle.
        where: names it in messages.

    Returns:
        What it holds; an array is a `ByteArray`.

    Raises:
        UserError: it is damaged, or names anything that an array of bytes does not need.
    """
    try:
        return _Reader(content, where).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(unreadable(where, error)) from error


class ByteArray:
    """Stands in for an array that is being unpickled; `value` is the array, of dtype uint8."""

    __slots__ = ("value",)

    def __init__(self, *_: object) -> None:  # the type, shape and letter of an array yet to be filled: nothing to keep
        self.value: Array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, Any, Any, Any, Any]) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Uint8) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not of bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
        if self.value.shape != shape:  # a negative size would be worked out from the others
            raise pickle.UnpicklingError(f"an array of shape {shape!r}")


class _Uint8:
    """Stands in for the dtype of an array."""

    __slots__ = ()

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {name!r}, not of bytes")

    def __setstate__(self, state: object) -> None:  # byte order and fields, which single bytes do not have
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
            "_codecs.encode": self._encode,  # how protocol 2 writes bytes
        }
        try:
            return known[f"{module}.{name}"]
        except KeyError:
            raise UserError(
                f"{self._where} asks to run {module}.{name}, which no data needs: it is hostile or damaged and was not "
                "run; fetch the official file"
            ) from None

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in {encoding!r}")
        self._encoded += len(text)
        if self._encoded > LIMIT:
            raise pickle.UnpicklingError(f"more than {LIMIT} bytes")
        return text.encode("latin1")
