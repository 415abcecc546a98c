"""Fill the tables of faults.md from faults.json: `make docs`.

`python docs/faults.py build` first copies the numbers that `make test-faults` wrote into that folder.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "faults.json"
PLACE = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str, figures: dict[str, Any]) -> str:
    """Write one of the two tables."""
    if name == "faults":
        heads = ["fault", "injected", "survived", "lost"]
        body = [
            [what, n["injected"], n["survived"], n["injected"] - n["survived"]] for what, n in figures[name].items()
        ]
    else:
        heads = ["what is read", "cases", "read", "refused in one line"]
        body = [[what, n["cases"], n["cases"] - n["refused"], n["refused"]] for what, n in figures[name].items()]
    body.append(["all", *(sum(row[i] for row in body) for i in range(1, len(heads)))])
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)], *body]
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in line] for line in lines]
    return "\n" + "".join("| " + " | ".join(line) + " |\n" for line in cells) + "\n"


def main() -> None:
    """Copy the numbers of the folders that are named, and fill the tables."""
    for folder in map(Path, sys.argv[1:]):
        faults, fuzz = (json.loads((folder / f"{name}.json").read_text()) for name in ("faults", "faults-fuzz"))
        FIGURES.write_text(json.dumps({"faults": faults, "fuzz": fuzz["targets"]}, indent=2) + "\n")
    figures, page = json.loads(FIGURES.read_text()), HERE / "faults.md"
    page.write_text(PLACE.sub(lambda found: found[1] + table(found[2], figures) + found[3], page.read_text()))


if __name__ == "__main__":
    main()
