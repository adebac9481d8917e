"""Text of models as Markdown with formulas, safely: what it may become is on a list, all else stays text.

No HTML, links, images or references; formulas become MathML whose tags and attributes are on a list, too. What is a
formula of chemistry (SMILES) keeps every character. Marks of a passage survive the rendering.
"""

from __future__ import annotations

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import cache, lru_cache
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml import exceptions
from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup, escape

from app.templating import shown
from app.web.marking import TAGS, Passage

LONGEST = 20_000
"""Characters; longer texts stay plain."""
LONGEST_FORMULA = 1_000
SIGNS = tuple("*_`#|$")
_OPEN, _CLOSE = 0xE000, 0xE00F
"""Characters of private use stand for marks and for what Markdown must not see, while it works; the text's own are spelled out first."""
_PRIVATE = re.compile("[\ue000-\ue02f]")
_MARKS = list(TAGS)
_HIDE = str.maketrans({sign: chr(0xE010 + place) for place, sign in enumerate("*$\\`_#~[]|")})
_SHOW = {ord(value): chr(key) for key, value in _HIDE.items()}
_SIGNS = re.compile(r"[*`#|$]|\\[(\[]|(?<![^\W_])_|^\s*(?:[-+>]|\d{1,9}[.)])\s", re.MULTILINE)
_ATOM = r"(?:\[[A-Za-z0-9@+\-:*]{1,20}\]|Br|Cl|[BCNOPSFIbcnops*])"
_SMILES = re.compile(rf"(?<!\S)(?=\S*[=#()\[\]*\\])(?:{_ATOM}(?:[-=#$:/\\~.]|\d|%\d\d|[()])*){{3,}}(?=[,;.?!]?(?:\s|$))")
_STRESSED = re.compile(r"(?P<stars>\*{2,3}|\*(?=[A-Za-z]*[bcnops][A-Za-z]*\*))(?P<word>[^*]+)(?P=stars)(?P<after>[^\w*]*)")
"""A word between stars that could be atoms: two stars are no chemistry, nor is an aromatic atom outside a ring."""
_FORMULA = re.compile(r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|\$(?![\s$])(?P<d>[^$\n]+?)(?<![\s\\])\$(?!\d)", re.DOTALL)


def rich(passage: Passage) -> Markup | None:
    """The passage rendered; None where that would show nothing that the plain text does not."""
    text = passage.text
    return _rendered(passage) if len(text) <= LONGEST and _SIGNS.search(text) else None


@lru_cache(maxsize=512)
def _rendered(passage: Passage) -> Markup:
    parts = []
    for piece in passage.pieces:
        plain = _SMILES.sub(_hidden, _spelled(piece.text))
        parts.append(f"{chr(_OPEN + 1 + _MARKS.index(piece.mark))}{plain}{chr(_CLOSE)}" if piece.mark else plain)
    return Markup(_markdown().render("".join(parts), {"mark": ""}))


def _hidden(smiles: re.Match[str]) -> str:
    """What Markdown must not see, so that every character stays; stars around it are Markdown's."""
    if found := _STRESSED.fullmatch(smiles.group()):
        return f"{found['stars']}{found['word'].translate(_HIDE)}{found['stars']}{found['after']}"
    return smiles.group().translate(_HIDE)


def _spelled(text: str) -> str:
    return _PRIVATE.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", shown(text))


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False, "maxNesting": 30}).enable("table")
    markdown.disable(["code", "html_block", "html_inline", "lheading", "reference", "link", "image", "autolink", "entity", "escape"])
    markdown.inline.ruler.before("escape", "formula", _formula_rule)
    markdown.inline.ruler.after("formula", "sign", _sign_rule)
    for name, render in (
        ("text", _text),
        ("code_inline", _code),
        ("fence", _fence),
        ("formula", _formula),
        ("heading_open", lambda *_: '<p class="heading">'),
        ("heading_close", lambda *_: "</p>\n"),
        ("th_open", _cell),
        ("td_open", _cell),
    ):
        markdown.add_render_rule(name, lambda _self, *given, render=render: render(*given))
    return markdown


def _formula_rule(state: StateInline, silent: bool) -> bool:
    found = _FORMULA.match(state.src, state.pos, state.posMax) if state.src[state.pos] in "$\\" else None
    if found is None or len(found.group()) > LONGEST_FORMULA:
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = found.group()
        token.meta = {"tex": next(part for part in found.groups() if part), "block": found["a"] is not None or found["b"] is not None}
    state.pos = found.end()
    return True


def _sign_rule(state: StateInline, silent: bool) -> bool:
    """A backslash before one of Markdown's signs; before any other it is part of the text, as in formulas."""
    if state.src[state.pos] != "\\" or state.src[state.pos + 1 : state.pos + 2] not in SIGNS:
        return False
    if not silent:
        state.pending += state.src[state.pos + 1]
    state.pos += 2
    return True


def _marked(text: str, env: MutableMapping[str, Any]) -> str:
    """Escaped text; each stretch under a mark is a whole element, so that marks never cross the markup around them."""
    made = []
    for part in re.split("([\ue001-\ue00f])", text):
        if _PRIVATE.fullmatch(part) and ord(part) <= _CLOSE:
            env["mark"] = "" if ord(part) == _CLOSE else _MARKS[ord(part) - _OPEN - 1]
        elif part:
            shown = escape(part.translate(_SHOW))
            tag = TAGS.get(env["mark"])
            made.append(f'<{tag} class="{env["mark"]}">{shown}</{tag}>' if tag else str(shown))
    return "".join(made)


def _text(tokens: Sequence[Token], place: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    return _marked(tokens[place].content, env)


def _code(tokens: Sequence[Token], place: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    return f"<code>{_marked(tokens[place].content, env)}</code>"


def _fence(tokens: Sequence[Token], place: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    return f"<pre><code>{_marked(tokens[place].content, env)}</code></pre>\n"


def _cell(tokens: Sequence[Token], place: int, _options: Any, _env: Any) -> str:
    style = str(tokens[place].attrGet("style") or "")
    return f'<{tokens[place].tag} class="end">' if style.endswith(":right") else f"<{tokens[place].tag}>"


def _formula(tokens: Sequence[Token], place: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    token = tokens[place]
    found = None if re.search("[\ue001-\ue00f]", token.content) else mathml(token.meta["tex"].translate(_SHOW), block=token.meta["block"])
    return found if found is not None else f'<code class="tex">{_marked(token.content, env)}</code>'


_ELEMENTS = frozenset(
    """math mrow mi mn mo mtext ms mspace mfrac msqrt mroot mstyle msub msup msubsup munder mover munderover mmultiscripts mprescripts
    none mtable mtr mtd mpadded mphantom menclose""".split()  # noqa: SIM905
)
_ATTRIBUTES = frozenset(
    """display mathvariant stretchy fence separator form accent accentunder movablelimits largeop symmetric lspace rspace minsize maxsize
    linethickness width height depth voffset columnalign rowalign columnspacing rowspacing columnlines rowlines notation scriptlevel
    displaystyle""".split()  # noqa: SIM905
)
_OWN_FAULTS: tuple[type[Exception], ...] = tuple(
    one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, Exception)
)
_FAULTS: tuple[type[Exception], ...] = (
    *_OWN_FAULTS,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    StopIteration,
    AssertionError,
)
"""What the library raises at text that is no LaTeX."""


@lru_cache(maxsize=2048)
def mathml(tex: str, *, block: bool) -> str | None:
    """A formula as MathML; None for what is no LaTeX, or is more than formulas need."""
    try:
        return _element(convert_to_element(tex, display="block" if block else "inline"), tex)
    except _FAULTS:
        return None


def _element(element: Element, tex: str | None = None) -> str:
    """The element, its tag and attributes from our list, its text escaped; of others only what they hold."""
    inside = _said(element.text) + "".join(_element(below) + _said(below.tail) for below in element)
    if element.tag not in _ELEMENTS:
        return inside
    kept = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items() if name in _ATTRIBUTES)
    label = f' aria-label="{escape(tex)}"' if tex is not None else ""
    return f"<{element.tag}{kept}{label}>{inside}</{element.tag}>"


def _said(text: str | None) -> str:
    return str(escape(html.unescape(text))) if text else ""
