"""The HTML page of a report, which opens offline. The template is page.html; every text in it is escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import tomli_w
from pydantic import BaseModel

from msgd.lab.report.figures import FONT
from msgd.lab.safe_io.writing import write_atomically
from msgd.lab.text import LEFT

KINDS = {"law": "left law", "method": "left", "verdict": "left"}  #: CSS classes of the columns that hold text

STYLE = """
body { font: 16px/1.5 FONT; color: #222; background: #fff; max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem }
p { max-width: 50rem; margin: .5rem 0 } .answer { font-size: 1.05rem } .note { color: #555; font-size: .92rem }
table { border-collapse: collapse; margin: .6rem 0; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { border-bottom: 1px solid #888; font-weight: 600 }
.left { text-align: left } .law { white-space: normal; max-width: 22rem }
.law { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .82rem }
.equivalent { color: #00694c; font-weight: 600 } .different { color: #b34700; font-weight: 600 }
.on { color: #00694c; font-weight: 600 } .off { color: #b34700; font-weight: 600 }
.negligible, .inconclusive { color: #555; font-weight: 600 } .diverged { color: #a00000; font-weight: 600 }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
pre { background: #f6f6f4; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4 }
.wide { overflow-x: auto }
""".replace("FONT", FONT)

Table = tuple[str | None, Sequence[str], Sequence[Sequence[str]]]  #: title, column heads and rows


class Plot(NamedTuple):
    """A Plotly figure with its name and caption."""

    name: str
    caption: str
    figure: Any


@dataclass(frozen=True)
class Section:
    """A section of a page: sentences, tables, more sentences, figures.

    Args:
        heading: the heading; None for no heading.
        before: sentences above the tables.
        tables: title, column heads and rows of each table.
        after: sentences below the tables.
        plots: the figures.
        deeper: number of levels by which the figures' headings lie below the section's heading.
    """

    heading: str | None = None
    before: Sequence[str] = ()
    tables: Sequence[Table] = ()
    after: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    deeper: int = 0


def render_page(
    recipe: BaseModel,
    environment: dict[str, Any],
    *,
    title: str,
    setting: str,
    answers: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """Compose a report.

    Args:
        recipe: the experiment's recipe, which the page shows in full.
        environment: the command's environment, which the page shows in full.
        title: title of the page.
        setting: sentences on what was run.
        answers: the sentences at the top.
        sections: the other sections, in order.

    Returns:
        A complete HTML page that loads nothing from elsewhere.
    """
    parts, has_script = [], False
    for section in sections:
        plots = []
        for plot in section.plots:
            html = plot.figure.to_html(
                full_html=False,
                include_plotlyjs=False if has_script else "inline",  # the first figure brings the script for all
                config={"displayModeBar": False, "responsive": True},
            )
            has_script = True
            plots.append({"name": plot.name, "caption": plot.caption, "html": html})
        parts.append({**vars(section), "plots": plots})
    return _template().render(
        title=title,
        setting=setting,
        answers=answers,
        sections=parts,
        command=str(environment.get("command", "")),
        recipe=tomli_w.dumps(recipe.model_dump(exclude_none=True)),
        environment=json.dumps(environment, indent=2),
    )


def write_page(html: str, out: Path) -> Path:
    """Write ``report.html``.

    Args:
        html: the page, from `render_page`.
        out: the experiment's folder.

    Returns:
        The path of the file.
    """
    path = out / "report.html"
    # A command line may hold bytes that are not valid text, which UTF-8 cannot encode.
    write_atomically(path, html.encode("utf-8", errors="backslashreplace"))
    return path


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"style": STYLE, "left": LEFT, "kinds": KINDS}
    text = resources.files("msgd.lab.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text)
