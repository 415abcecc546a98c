"""The command ``msgd``, also as ``python -m msgd``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from msgd.cli import app
    except ModuleNotFoundError as error:
        sys.stderr.write(f"msgd: {error.name} is not installed, the command needs it: pip install 'msgd[lab]'\n")
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
