"""The command ``msgd``, also as ``python -m msgd``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from msgd.cli.app import app
    except ModuleNotFoundError as error:
        sys.stderr.write(f"msgd: {error.name} is not installed, the command needs it: pip install 'msgd[lab]'\n")
        sys.exit(2)
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        try:
            from msgd.lab.training.torchrun import run_under_torchrun

            run_under_torchrun(app)
        except KeyboardInterrupt:  # before the command began, which says more of it
            sys.exit(130)
    else:
        app()


if __name__ == "__main__":
    main()
