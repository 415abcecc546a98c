"""Files of data sets: found in a folder or downloaded, and the checks that every format shares."""

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

#: training images, their classes, test images, their classes
Splits = tuple[Array, Array, Array, Array]
LIMIT = 2**28  #: bytes that a file may hold once inflated; the largest official one holds 225 million


@dataclass(frozen=True)
class Source:
    """Where the files of a data set come from.

    Args:
        data_set: names the folder in the cache of downloads.
        url: of the folder that holds the files.
        files: size in bytes and MD5 of each file, as published.
        contents: what a user's folder has to hold, in words.
        installed: where a package of the system puts the files.
        package: how to install it, in words that end in ", or ".
    """

    data_set: str
    url: str
    files: Mapping[str, tuple[int, str]]
    contents: str
    installed: Path | None = None
    package: str = ""

    def find(self, name: str, data_dir: Path | None, *, unpacked: str | None = None) -> Path:
        """Find a file, or download it.

        A file in a folder may be smaller or larger than the official one: what it holds is checked when it is read.

        Args:
            name: a key of `files`.
            data_dir: the user's folder; None for the system's package, or a download with its checksum.
            unpacked: what the file, or the folder in it, is called once unpacked.

        Returns:
            The path, of the packed file where there are both.

        Raises:
            UserError: it is not there, has the size of the official file but not its content, or cannot be downloaded.
        """
        folder = self.installed if data_dir is None else data_dir
        names = [name] if unpacked is None else [name, unpacked]
        for path in [] if folder is None else [folder / each for each in names]:
            if path.exists():
                self._refuse_damaged(path)
                return path
        if data_dir is not None:
            missing = f"no {name}" if unpacked is None else f"neither {name} nor {unpacked}"
            raise UserError(f"{data_dir} holds {missing}: put {self.contents} there, from {self.url}")
        return self._download(name)

    def _refuse_damaged(self, path: Path) -> None:
        size, md5 = self.files.get(path.name, (-1, ""))
        if path.stat().st_size == size and _md5(path) != md5:
            raise UserError(f"{path} is damaged: it has the official size but the wrong checksum; fetch it again")

    def _download(self, name: str) -> Path:
        import pooch

        try:
            return Path(
                pooch.retrieve(
                    self.url + name,
                    known_hash=f"md5:{self.files[name][1]}",
                    fname=name,
                    path=pooch.os_cache("msgd") / self.data_set,
                )
            )
        except Exception as error:  # whatever the network, the server or the checksum says
            raise UserError(
                f"{name} could not be downloaded ({type(error).__name__}): "
                f"{self.package}give --data-dir a folder with {self.contents}"
            ) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unreadable(path: Path | str, error: Exception | str) -> str:
    """What to say of a file that cannot be read.

    Args:
        path: of the file, or of a file in an archive.
        error: what went wrong.

    Returns:
        A message of one line.
    """
    return f"{path} cannot be read ({' '.join(str(error).split()) or type(error).__name__}): fetch it again"


def read_bytes(path: Path) -> bytes:
    """Read a whole file, inflated if its name ends in .gz.

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
        raise UserError(unreadable(path, error)) from error
    if len(content) > LIMIT:
        raise UserError(unreadable(path, f"more than {LIMIT} bytes"))
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
    """Refuse images and labels that are not what they should be.

    Args:
        images: shape (n, …).
        labels: shape (n,).
        shape: that each image must have.
        allowed: the labels that there are.
        path: of the images' file, for the message.
        labels_path: of the labels' file, if it is another one.

    Raises:
        UserError: there are no images or not as many as labels, they have another shape, or a label is not allowed.
    """
    if len(images) != len(labels) or len(labels) == 0:
        raise UserError(f"{path}: {len(images)} images and {len(labels)} labels; fetch it again")
    if images.shape[1:] != shape:
        is_, should = ("×".join(map(str, each)) for each in (images.shape[1:], shape))
        raise UserError(f"{path}: images of {is_}, not {should}; fetch the official file")
    wrong = labels[~np.isin(labels, np.array(allowed))]  # so are fractions and NaN
    if wrong.size:
        raise UserError(
            f"{labels_path or path}: label {wrong[0]:g}; labels are {allowed.start} … {allowed.stop - 1}, "
            "fetch the official file"
        )
