"""Read arrays of numbers from MATLAB 5 files.

scipy.io.loadmat supports more, but trusts the headers: some damaged files crash the process, and it allocates as much
memory as a file claims to need.

References:
    The MathWorks: "MAT-File Format", the chapter on version 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator

import numpy as np

from msgd.lab.data.download import LIMIT, Array

_HEADER = 128
_LITTLE_ENDIAN_VERSION_5 = b"\x00\x01IM"  # the last four bytes of the header
_MATRIX, _COMPRESSED = 14, 15

#: dtype by the number of the storage type, which may be smaller than the class of the array
_STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_NUMBERS = range(6, 16)  # the classes double, single, and int8 to uint64
_COMPLEX = 0x800


def read_arrays(content: bytes, names: Collection[str]) -> dict[str, Array]:
    """Read real arrays of numbers, and ignore all other variables in the file.

    Args:
        content: content of a little-endian file.
        names: names of the variables to read.

    Returns:
        The named variables that the file holds, in column-major order and in the dtype in which the file stores them.

    Raises:
        ValueError: the file is not a MATLAB 5 file, is truncated or damaged, or decompresses to more than `LIMIT`
            bytes; or a named variable occurs twice or is not a real array of numbers.
    """
    if content[_HEADER - 4 : _HEADER] != _LITTLE_ENDIAN_VERSION_5:
        raise ValueError("not a MATLAB 5 file")
    arrays: dict[str, Array] = {}
    for matrix in _matrices(memoryview(content)[_HEADER:]):
        _, flags, at = _element(matrix, 0)
        kind, sizes, at = _element(matrix, at)
        _, letters, at = _element(matrix, at)
        name = str(letters, "latin1")
        if name not in names:
            continue
        if name in arrays:
            raise ValueError(f"{name} occurs twice")
        about = int.from_bytes(flags[:4], "little")
        if about & 0xFF not in _NUMBERS or about & _COMPLEX or kind != 5:
            raise ValueError(f"{name} is not an array of real numbers")
        arrays[name] = _array(matrix, at, tuple(np.frombuffer(sizes, "<i4").tolist()))
    return arrays


def _array(matrix: memoryview, at: int, shape: tuple[int, ...]) -> Array:
    kind, values, _ = _element(matrix, at)
    if kind not in _STORED:
        raise ValueError(f"numbers of type {kind}")
    array = np.frombuffer(values, _STORED[kind]).reshape(shape, order="F")
    if array.shape != shape:  # reshape computes a negative size from the others
        raise ValueError(f"an array of shape {shape}")
    return array


def _matrices(view: memoryview) -> Iterator[memoryview]:
    """Yield the content of every variable, decompressed."""
    at, left = 0, LIMIT
    while at < len(view):
        kind, content, after = _element(view, at)
        if kind == _COMPRESSED:
            after = at + 8 + len(content)  # compressed elements are the only ones without padding
            inflater = zlib.decompressobj()
            inflated = inflater.decompress(content, left + 1)
            left -= len(inflated)
            if left < 0:
                raise ValueError(f"more than {LIMIT} bytes")
            if not inflater.eof:
                raise ValueError("truncated")
            kind, content, _ = _element(memoryview(inflated), 0)
        if kind != _MATRIX:
            raise ValueError(f"a variable of type {kind}")
        yield content
        at = after


def _element(view: memoryview, at: int) -> tuple[int, memoryview, int]:
    """The type and the content of the element at an offset, and the offset of the next element."""
    if at + 8 > len(view):
        raise ValueError("truncated")
    kind, size = struct.unpack_from("<II", view, at)
    start, after = at + 8, at + 8 + size + -size % 8
    if kind >> 16:  # a small element: at most four bytes of content, stored after a 16-bit size
        kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
    if start + size > len(view) or (start == at + 4 and size > 4):
        raise ValueError("truncated")
    return kind, view[start : start + size], after
