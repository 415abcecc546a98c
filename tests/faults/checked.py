"""How many cases the tests of faults run, and how much a case may take."""

import json
import os
import resource
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from msgd.lab.errors import UserError

FULL = os.environ.get("MSGD_FAULTS") == "full"
MEMORY = 2**30  #: bytes of addresses that a test may add to those of its process
SECONDS = 60  #: of a case, on a busy machine; most take milliseconds

cases: Counter[str] = Counter()
refused: Counter[str] = Counter()


class HangsError(BaseException):
    """A case took too long; no reader catches it."""


def clean(target, read, *arguments, seconds=SECONDS):
    """Call a reader: what it is given is read, or refused in one line; anything else is a fault, and comes out.

    Returns the reader's value, or the line.
    """
    cases[target] += 1

    def hangs(*_):
        raise HangsError(target)

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with bounded():
            return read(*arguments)
    except UserError as error:
        refused[target] += 1
        said = str(error)
        assert said.strip(), f"{target}: refused without a word"
        assert len(said.splitlines()) == 1, f"{target}: refused in several lines: {said}"
        return said
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded(memory=MEMORY):
    """Let the process take so much memory beyond what it has: further allocations fail with a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def write_ledger():
    """After the full form, build/faults-fuzz.json says how many cases ran of each target."""
    path = Path(__file__).parents[2] / "build" / "faults-fuzz.json"
    path.parent.mkdir(exist_ok=True)
    table = {name: {"cases": cases[name], "refused": refused[name]} for name in sorted(cases) if name != "control"}
    total = sum(entry["cases"] for entry in table.values())
    path.write_text(json.dumps({"cases": total, "targets": table}, indent=1) + "\n")
