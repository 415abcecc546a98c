"""The errors that the command line turns into a line and an exit code."""

from __future__ import annotations

LONGEST = 2000  #: characters of a line


class UserError(Exception):
    """Something that the user must mend; the message is one line and names the remedy: exit code 2.

    Args:
        message: it may quote what a file holds.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, from a scheduler; exit code 143."""


def one_line(text: object) -> str:
    r"""What the command says, as a line: what a file put into it can neither steer a terminal nor fill it.

    Args:
        text: such as an error.

    Returns:
        At most `LONGEST` characters, the start and the end of it, all of them printable.

    Examples:
        >>> one_line("a title\n\x1b[2Jof two lines")
        'a title \\x1b[2Jof two lines'
    """
    said = " ".join(str(text).split())
    if len(said) > LONGEST:
        said = f"{said[: LONGEST * 3 // 4 - 3]} … {said[-LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in said)
