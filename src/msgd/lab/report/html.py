"""HTML of tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import tomli_w
from pydantic import BaseModel

from msgd.lab.report.figures import FONT
from msgd.lab.report.verdict import LEFT

KINDS = {"law": "left law", "method": "left", "verdict": "left"}  #: CSS classes of the columns of text


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
.trivial, .inconclusive { color: #555; font-weight: 600 } .diverged { color: #a00000; font-weight: 600 }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
pre { background: #f6f6f4; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4 }
.wide { overflow-x: auto }
""".replace("FONT", FONT)


def encode_page(html: str) -> bytes:
    """A page as it is written; a command may hold bytes that are no text, and UTF-8 cannot have them."""
    return html.encode("utf-8", errors="backslashreplace")


def provenance_html(recipe: BaseModel, environment: dict[str, Any]) -> str:
    """Say in HTML how an experiment was made: command, recipe, environment."""
    return f"""<h2>How this was made</h2>
<pre>{escape(str(environment.get("command", "")))}</pre>
<details><summary>Recipe</summary><pre>{escape(tomli_w.dumps(recipe.model_dump(exclude_none=True)))}</pre></details>
<details><summary>Environment</summary><pre>{escape(json.dumps(environment, indent=2))}</pre></details>"""


def plot_html(head: str, name: str, caption: str, figure: Any, *, first: bool) -> str:
    return f"<{head}>{escape(name)}</{head}><p class=note>{escape(caption)}</p>{_html(figure, first=first)}"


def html_table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Compose a table.

    Args:
        heads: of the columns.
        body: rows of text.

    Returns:
        HTML, every text escaped.
    """
    head = "".join(f'<th class="{"left" if c in LEFT else ""}">{escape(c)}</th>' for c in heads)
    lines = ""
    for row in body:
        cells = ""
        for column, text in zip(heads, row, strict=True):
            kind = KINDS.get(column, "") + (f" {escape(text)}" if column == "verdict" else "")
            cells += f'<td class="{kind}">{escape(text)}</td>'
        lines += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def figures_html(plots: Sequence[tuple[str, str, Any]]) -> str:
    """Compose the report's figures.

    Args:
        plots: heading, caption and figure of each.

    Returns:
        HTML; the first figure brings the script that all need.
    """
    return "".join(plot_html("h2", *plot, first=number == 0) for number, plot in enumerate(plots))


def _html(figure: Any, *, first: bool) -> str:
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs="inline" if first else False,
            config={"displayModeBar": False, "responsive": True},
        )
    )
