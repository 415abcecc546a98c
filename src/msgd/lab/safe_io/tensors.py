"""Tensor files that are checked before they are used."""

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

TENSOR_BYTES = 2**32  #: of a checkpoint: resnet18 with momentum and 80 eigenvectors
HEADER_BYTES = 2**20  #: of its header, with the names of the tensors


def check_tensor_file(path: Path, limit: int = TENSOR_BYTES) -> None:
    """Refuse a safetensors file that would take too much memory to read.

    Args:
        path: of the file.
        limit: bytes that it may have.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is too large, or its header is.
    """
    check_regular(path)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{size} bytes, and at most {limit} are read")
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
            raise ValueError(f"a header of more than {HEADER_BYTES} bytes")


def to_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Compose a safetensors file.

    Args:
        tensors: by name.
        metadata: strings by name.

    Returns:
        Its bytes.

    Raises:
        MemoryError: there is too little memory; safetensors itself would abort the process, or wait for itself forever.
    """
    bytearray(3 * sum(tensor.nbytes for tensor in tensors.values()) + 2**20)  # it has two copies at a time
    return safetensors.torch.save(tensors, metadata)


def crc32(tensors: dict[str, Tensor]) -> str:
    """A checksum of tensors and their names.

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
    """Read a safetensors file, and compare its tensors with the checksum in it.

    Args:
        path: of the file.
        remedy: what the user can do about a damaged file, for the message.
        tensors: read the tensors and check them; otherwise they are left out.
        limit: bytes that the file may have.
        checksum: how the checksum under the key ``crc32`` was computed.

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
        found = checksum(loaded)
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:  # NumPy lacks some types
        raise_unreadable(error)
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error
    if tensors and metadata.get("crc32") != found:
        raise UserError(f"{path} is damaged (wrong checksum): {remedy}")
    return metadata, loaded
