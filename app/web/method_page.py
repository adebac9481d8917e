"""docs/method.md as a page, below the product's words. Markup inside the Markdown stays text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from app.templating import ROOT
from app.web.words import WORDS, Word

SOURCE = ROOT / "docs" / "method.md"


@dataclass(frozen=True, slots=True)
class MethodPage:
    """The glossary, and the method as HTML that the Markdown renderer escaped; empty where the file is not installed."""

    words: tuple[Word, ...]
    body: Markup


@cache
def method_page() -> MethodPage:
    """Rendered once a process."""
    text = SOURCE.read_text(encoding="utf-8") if SOURCE.exists() else ""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _slug(inline))
    html = markdown.renderer.render(tokens, markdown.options, {})
    return MethodPage(tuple(WORDS.values()), Markup(html.replace("<pre>", '<pre tabindex="0">')))  # wide ones scroll, by keyboard too


def _slug(heading: Token) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.content.lower()).strip("-")
