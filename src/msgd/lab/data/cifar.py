"""Read CIFAR-10 and CIFAR-100 from their Python archives."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msgd.lab.data.download import Array, Source, Splits, check_images, read_bytes, unreadable_message
from msgd.lab.data.pickles import ByteArray, unpickle
from msgd.lab.errors import UserError

CIFAR10 = Source(
    data_set="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    files={"cifar-10-python.tar.gz": (170498071, "c58f30108f718f92721af3b95e74349a")},
    contents="cifar-10-python.tar.gz",
)

CIFAR100 = Source(
    data_set="cifar100",
    url="https://www.cs.toronto.edu/~kriz/",
    files={"cifar-100-python.tar.gz": (169001437, "eb9058c3a382ffc7106e4002c42a8d85")},
    contents="cifar-100-python.tar.gz",
)

MEMBERS = 1000  #: largest number of members of an archive; the official archives have fewer than 10
_BLOCK = tarfile.BLOCKSIZE

_WITHOUT_CONTENT = {
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
}


def cifar10(data_dir: Path | None) -> Splits:
    """Read CIFAR-10, with the official training and test images.

    Args:
        data_dir: folder with cifar-10-python.tar.gz, or with cifar-10-batches-py unpacked from it; None for a download.

    Returns:
        Images of 3×32×32 and classes 0 … 9.
    """
    path = CIFAR10.find("cifar-10-python.tar.gz", data_dir, other_name="cifar-10-batches-py")
    names = [*(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)), "cifar-10-batches-py/test_batch"]
    return _splits(path, names, labels=b"labels", classes=10)


def cifar100(data_dir: Path | None) -> Splits:
    """Read CIFAR-100, with the official training and test images and the fine classes.

    Args:
        data_dir: folder with cifar-100-python.tar.gz, or with cifar-100-python unpacked from it; None for a download.

    Returns:
        Images of 3×32×32 and classes 0 … 99.
    """
    path = CIFAR100.find("cifar-100-python.tar.gz", data_dir, other_name="cifar-100-python")
    names = ["cifar-100-python/train", "cifar-100-python/test"]
    return _splits(path, names, labels=b"fine_labels", classes=100)


def _splits(path: Path, names: Sequence[str], *, labels: bytes, classes: int) -> Splits:
    """Read all files; the last one is the test set, the others are the training set."""
    contents = _read_folder(path, names) if path.is_dir() else _read_archive(path, names)
    *train, test = (_batch(content, where, labels, classes) for where, content in contents)
    images, targets = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return images, targets, *test


def _read_folder(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = folder.parent / name
        yield str(path), read_bytes(path)


def _read_archive(path: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the content of each file of an archive with a name for messages, without writing to the disk."""
    try:
        members = _members(read_bytes(path))
    except (tarfile.TarError, ValueError) as error:
        raise UserError(unreadable_message(path, error)) from error
    for name in names:
        if name not in members:
            raise UserError(f"{path} holds no {name}: fetch the official archive")
        content = members[name]
        if content is None:
            raise UserError(f"{path}: {name} is not a regular file; fetch the official archive")
        yield f"{name} in {path}", bytes(content)


def _members(content: bytes) -> dict[str, memoryview | None]:
    """List the members of a tar archive by name, with None for a member that is not a regular file.

    `tarfile` supports more, but keeps everything that it reads: a small archive can inflate to a million members, or to
    gigabytes of attributes. This function skips headers that describe other headers, and does not follow links.

    Args:
        content: content of the archive, decompressed.

    Returns:
        Views of the content.

    Raises:
        tarfile.TarError: the content is not a tar archive, or is damaged.
        ValueError: the archive is truncated, or has more than `MEMBERS` members.
    """
    view, members, at = memoryview(content), dict[str, memoryview | None](), 0
    for _ in range(MEMBERS):
        header = bytes(view[at : at + _BLOCK])
        if header == bytes(_BLOCK):
            return members
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        at += _BLOCK
        size = 0 if member.type in _WITHOUT_CONTENT else member.size
        if size < 0 or at + size > len(view):
            raise ValueError(f"{member.name!r} is truncated")
        plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE}
        members[member.name] = view[at : at + size] if plain else None
        at += size + -size % _BLOCK
        if at >= len(view):  # the archive has no empty block at its end
            return members
    raise ValueError(f"more than {MEMBERS} members")


def _batch(content: bytes, where: str, key: bytes, classes: int) -> tuple[Array, Array]:
    batch = unpickle(content, where)
    pixels, labels = (batch.get(b"data"), batch.get(key)) if isinstance(batch, dict) else (None, None)
    if (
        not isinstance(pixels, ByteArray)
        or pixels.value.ndim != 2
        or not isinstance(labels, list)
        or not all(type(label) is int and 0 <= label < 2**31 for label in labels)
    ):
        raise UserError(
            f"{where} is not a batch of CIFAR: it must hold data, an array of n×3072 bytes, and {key.decode()}, "
            "a list of n classes; fetch the official archive"
        )
    targets = np.array(labels, dtype=np.int64)
    check_images(pixels.value, targets, shape=(3 * 32 * 32,), allowed=range(classes), path=where)
    return pixels.value.reshape(-1, 3, 32, 32), targets
