"""The command ``msgd``, also as ``python -m msgd``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line, or print which package is missing."""
    from msgd.cli.streams import prepare_streams

    prepare_streams()
    try:
        from msgd.cli.app import app
    except ModuleNotFoundError as error:
        from msgd.lab.errors import missing_package

        sys.stderr.write(f"msgd: {missing_package(error)}\n")
        sys.exit(2)
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        try:
            from msgd.lab.training.torchrun import run_under_torchrun

            run_under_torchrun(app)
        except KeyboardInterrupt:  # the command, which prints a message at Ctrl-C, has not started yet
            sys.exit(130)
    else:
        app()


if __name__ == "__main__":
    main()
