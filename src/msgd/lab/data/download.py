"""Find or download the files of data sets, and check what all formats have in common."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import check_regular

Array = NDArray[Any]

#: how a checksum was computed, by the number of its hexadecimal digits
ALGORITHMS = {32: "md5", 64: "sha256"}

#: training images, their classes, test images, their classes
Splits = tuple[Array, Array, Array, Array]
LIMIT = 2**28  #: largest size of a file in bytes, decompressed; the largest official file has 225 million bytes


@dataclass(frozen=True)
class Source:
    """The source of the files of a data set.

    Args:
        data_set: name of the data set, and of its folder in the cache of downloads.
        url: address of the folder that holds the files.
        files: published size in bytes and checksum (MD5 or SHA-256, hexadecimal) of each file, by name.
        contents: description of the files that a user's folder must hold, for messages.
        system_folder: folder in which a package of the operating system installs the files.
        package_hint: how to install that package, for messages; ends in ", or ".
    """

    data_set: str
    url: str
    files: Mapping[str, tuple[int, str]]
    contents: str
    system_folder: Path | None = None
    package_hint: str = ""

    def find(self, name: str, data_dir: Path | None, *, other_name: str | None = None) -> Path:
        """Find a file, or download it.

        A file in a folder may be smaller or larger than the official one; its content is checked when it is read.

        Args:
            name: a key of `files`.
            data_dir: the user's folder; None for the system's package, or a download with a checksum.
            other_name: another name that the file may have in a folder, such as that of its content after unpacking.

        Returns:
            The path; that of the file called ``name`` if both exist.

        Raises:
            UserError: the file is missing, has the size of the official file but a wrong checksum, or cannot be
                downloaded.
        """
        folder = self.system_folder if data_dir is None else data_dir
        names = [name] if other_name is None else [name, other_name]
        for path in [] if folder is None else [folder / each for each in names]:
            if path.exists():
                self._check_intact(path, name)
                return path
        if data_dir is not None:
            missing = f"no {name}" if other_name is None else f"neither {name} nor {other_name}"
            raise UserError(f"{data_dir} holds {missing}: put {self.contents} there, from {self.url}")
        return self._download(name)

    def _check_intact(self, path: Path, name: str) -> None:
        size, checksum = self.files[name]
        if path.stat().st_size == size and _digest(path, _algorithm(checksum)) != checksum:
            raise UserError(f"{path} is damaged: it has the official size but the wrong checksum; fetch it again")

    def _download(self, name: str) -> Path:
        import pooch

        checksum = self.files[name][1]
        try:
            return Path(
                pooch.retrieve(
                    self.url + name,
                    known_hash=f"{_algorithm(checksum)}:{checksum}",
                    fname=name,
                    path=pooch.os_cache("msgd") / self.data_set,
                )
            )
        except Exception as error:  # the network, the server and the checksum can fail in many ways
            raise UserError(
                f"{name} could not be downloaded ({type(error).__name__}): "
                f"{self.package_hint}give --data-dir a folder with {self.contents}"
            ) from error


def _algorithm(checksum: str) -> str:
    return ALGORITHMS[len(checksum)]


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def unreadable_message(path: Path | str, error: Exception | str) -> str:
    """Compose the message about a file that cannot be read.

    Args:
        path: the file, or a description of a file in an archive.
        error: the reason.

    Returns:
        A message of one line.
    """
    return f"{path} cannot be read ({' '.join(str(error).split()) or type(error).__name__}): fetch it again"


def read_bytes(path: Path) -> bytes:
    """Read a whole file, decompressed if its name ends in .gz.

    Args:
        path: the file.

    Returns:
        At most `LIMIT` bytes.

    Raises:
        UserError: the file is missing, truncated, damaged, or holds more than `LIMIT` bytes.
    """
    try:
        check_regular(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(unreadable_message(path, error)) from error
    if len(content) > LIMIT:
        raise UserError(unreadable_message(path, f"more than {LIMIT} bytes"))
    return content


def check_images(
    images: Array,
    labels: Array,
    *,
    shape: tuple[int, ...],
    allowed: range,
    path: Path | str,
    labels_path: Path | str | None = None,
) -> None:
    """Check the number and the shape of images, and the range of their labels.

    Args:
        images: shape (n, …).
        labels: shape (n,).
        shape: the shape that each image must have.
        allowed: the valid labels.
        path: file of the images, for messages.
        labels_path: file of the labels, if it is another file.

    Raises:
        UserError: there are no images, the numbers of images and labels differ, the shape is wrong, or a label is
            invalid.
    """
    if len(images) != len(labels) or len(labels) == 0:
        raise UserError(f"{path}: {len(images)} images and {len(labels)} labels; fetch it again")
    if images.shape[1:] != shape:
        actual, expected = ("×".join(map(str, each)) for each in (images.shape[1:], shape))
        raise UserError(f"{path}: images of {actual}, not {expected}; fetch the official file")
    wrong = labels[~np.isin(labels, np.array(allowed))]  # includes fractions and NaN
    if wrong.size:
        raise UserError(
            f"{labels_path or path}: label {wrong[0]:g}; labels are {allowed.start} … {allowed.stop - 1}, "
            "fetch the official file"
        )
