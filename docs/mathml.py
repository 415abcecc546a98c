"""A hook of MkDocs that turns the TeX formulas of a page into MathML, which browsers render without a script.

`pymdownx.arithmatex` marks the formulas: ``$…$`` within a line and ``$$…$$`` on lines of their own.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """Replace every marked formula by MathML.

    Args:
        html: the content of a page.

    Returns:
        The same content with rendered formulas. A formula on lines of its own scrolls where the screen is narrow.
    """
    return FORMULA.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    if found[1] == "span":
        return convert(unescape(found[2]).strip())
    return f'<div class="formula">{convert(unescape(found[2]).strip(), display="block")}</div>'
