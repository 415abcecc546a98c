"""Tensor files with a checksum, checked before use."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import check_regular, raise_unreadable

TENSOR_BYTES = 2**32  #: largest size of a file; resnet18 with momentum and 80 eigenvectors fits
HEADER_BYTES = 2**20  #: largest size of a header, which holds the names of the tensors


def check_tensor_file(path: Path, limit: int = TENSOR_BYTES) -> None:
    """Check that a safetensors file does not take too much memory to read.

    Args:
        path: of the file.
        limit: largest size in bytes.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
        ValueError: the file or its header is too large.
    """
    check_regular(path)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{size} bytes, but at most {limit} are read")
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
            raise ValueError(f"a header of more than {HEADER_BYTES} bytes")


def to_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Serialise tensors in the safetensors format.

    Args:
        tensors: by name.
        metadata: strings by name.

    Returns:
        The bytes of the file.

    Raises:
        MemoryError: there is too little memory. (safetensors itself would abort the process or deadlock.)
    """
    bytearray(3 * sum(tensor.nbytes for tensor in tensors.values()) + 2**20)  # safetensors holds two copies at a time
    return safetensors.torch.save(tensors, metadata)


def crc32(tensors: dict[str, Tensor]) -> str:
    """Compute the CRC-32 of tensors and their names.

    Args:
        tensors: by name.

    Returns:
        Eight hexadecimal digits.
    """
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(tensors[name].cpu().numpy()).data, crc)
    return f"{crc:08x}"


def read_tensors(
    path: Path,
    remedy: str,
    *,
    tensors: bool = True,
    limit: int = TENSOR_BYTES,
    checksum: Callable[[dict[str, Tensor]], str] = crc32,
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a safetensors file, and compare its tensors with the checksum in its metadata.

    Args:
        path: of the file.
        remedy: what the user can do about a damaged file, for the message.
        tensors: whether to read and check the tensors; if not, only the metadata is read.
        limit: largest size of the file in bytes.
        checksum: the function that computed the checksum under the key ``crc32``.

    Returns:
        The metadata, and the tensors by name.

    Raises:
        UserError: the file is damaged.
    """
    try:
        check_tensor_file(path, limit)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            loaded = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
        actual = checksum(loaded)
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:  # TypeError: NumPy lacks the dtype
        raise_unreadable(error)
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error
    if tensors and metadata.get("crc32") != actual:
        raise UserError(f"{path} is damaged (wrong checksum): {remedy}")
    return metadata, loaded
