"""Read tiny Shakespeare, a text of 1.1 million characters, as sequences whose next characters are to be predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msgd.lab.data.dataset import Data
from msgd.lab.data.download import Array, Source, unreadable_message
from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import read_bytes

SOURCE = Source(
    data_set="shakespeare",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    files={"input.txt": (1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")},
    contents="input.txt of tiny Shakespeare",
)

LENGTH = 64  #: number of characters in an example
CHARACTERS = 256  #: largest number of different characters
LIMIT = 2**24  #: largest size of the text in bytes; an example takes 16 bytes of memory for each character


def shakespeare(data_dir: Path | None) -> Data:
    """Read tiny Shakespeare. The first 90% of the characters train, and the rest is for testing.

    The examples are consecutive windows of 64 characters without overlap. The targets are the same windows one
    character later. A code is the position of a character among the sorted characters of the whole text.

    Args:
        data_dir: folder with the text, input.txt or tinyshakespeare.txt, in UTF-8; None to download it.

    Returns:
        Codes and the codes of the next characters, each of shape (n, 64), int64; 65 classes.

    Raises:
        UserError: the text is missing, damaged, not UTF-8, too short, too long, or has more than 256 characters.
    """
    path = SOURCE.find("input.txt", data_dir, other_name="tinyshakespeare.txt")
    try:
        text = read_bytes(path, LIMIT).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(unreadable_message(path, error)) from error
    if len(text) <= 10 * LENGTH:
        raise UserError(
            f"{path} holds {len(text)} characters, and at least {10 * LENGTH + 1} are needed: fetch it again"
        )
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    characters = np.unique(points)
    if len(characters) > CHARACTERS:
        raise UserError(
            f"{path} holds {len(characters)} different characters; use a text with at most {CHARACTERS}, "
            "or fetch the official file"
        )
    codes = np.searchsorted(characters, points).astype(np.int64)
    split = len(codes) * 9 // 10
    return Data(*_windows(codes[:split]), *_windows(codes[split:]), len(characters))


def _windows(codes: Array) -> tuple[Array, Array]:
    end = (len(codes) - 1) // LENGTH * LENGTH  # the last window needs a character after it
    return codes[:end].reshape(-1, LENGTH), codes[1 : end + 1].reshape(-1, LENGTH)
