"""The errors that the command line turns into one line and an exit code."""

from __future__ import annotations

LONGEST = 2000  #: largest number of characters in a message

#: the packages of the extra ``lab``
LABORATORY = "typer rich pydantic joblib cloudpickle plotly pooch mnist1d safetensors tomli-w filelock jinja2"


class UserError(Exception):
    """An error that the user can fix. Its message is one line that names the remedy; the exit code is 2.

    Args:
        message: the text; it may quote the content of a file.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class Terminated(KeyboardInterrupt):
    """SIGTERM was received, which a scheduler sends to end a command. The exit code is 143."""


def one_line(text: object) -> str:
    r"""Make a text safe to print: one line, of limited length, without control characters from a file it quotes.

    Args:
        text: a message or an error.

    Returns:
        Printable characters only; a text of more than `LONGEST` characters keeps its start and its end.

    Examples:
        >>> one_line("a title\n\x1b[2Jof two lines")
        'a title \\x1b[2Jof two lines'
    """
    line = " ".join(str(text).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 3 // 4 - 3]} … {line[-LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def missing_package(error: ModuleNotFoundError) -> str:
    """Say which package is missing, and how to install it.

    Args:
        error: of the import.

    Returns:
        A message of one line.
    """
    package = str(error.name).partition(".")[0].replace("_", "-")
    return f"{error.name} is not installed: pip install {package} (the laboratory needs: {LABORATORY})"
