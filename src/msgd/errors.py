"""The errors that the command line turns into a line and an exit code."""


class UserError(Exception):
    """Something that the user must mend; the message is one line and names the remedy: exit code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, from a scheduler; exit code 143."""
