"""The one error that the command line turns into a line and exit code 2."""


class UserError(Exception):
    """Something that the user must mend; the message is one line and names the remedy."""
