"""Jinja with autoescape, the filters that the pages use, and addresses of static files that change with their content.

Text of models and uploads goes through `shown`: Jinja escapes the markup, `shown` makes control and
direction characters visible, so that hostile text can neither run nor rearrange the page.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from unicodedata import category

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.access.person import Person
from app.web.plots import marker
from app.web.words import MENDED, OUTCOMES, PARTS, STATUSES, WORDS
from opcod.estimation.words import FIGURES, between

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"

_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")

_MARKS = "".join(mark for mark in map(chr, (*range(0x300, 0x3100), *range(0xFE00, 0xFE30))) if category(mark) in ("Mn", "Me"))
_PILED = re.compile(f"([{_MARKS}]{{8}})([{_MARKS}]+)")
"""More marks on a letter than any script has: no line breaks among them, and they cover the lines around."""


def shown(text: str | None) -> str:
    """Text with control, invisible and direction-changing characters spelled out, as in ``⟨U+202E⟩``, and without piles of marks."""
    if not text or (text.isascii() and text.isprintable()):
        return text or ""
    text = _HIDDEN.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", text)
    return _PILED.sub(lambda match: f"{match[1]}⟨{len(match[2])} more marks⟩", text)


def bare(text: str) -> str:
    """Text without them, for a field in which somebody edits it."""
    return _HIDDEN.sub("", text)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent: ``0.125`` -> ``12.5``; an en dash for nothing."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of fractions in points with its sign, a real minus, and no sign for what rounds to 0."""
    if value is None:
        return ""
    points = round(100 * value, digits)
    return f"{'+' if points > 0 else '−' if points < 0 else '±'}{abs(points):.{digits}f}"


def number(value: float | int | None, digits: int = 3) -> str:
    """A count with thin thousands, or a figure with `digits` significant digits."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: ``48 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{whole // 86_400} d"


def utc(moment: datetime) -> datetime:
    """SQLite gives times back without a zone; all of ours are UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def ago(moment: datetime | None) -> Markup:
    """A moment as its age, ``just now`` or ``3 min ago``, which goes on while the page stands (static/ages.js); exact on hover."""
    if moment is None:
        return Markup("–")
    seconds = max(0, round((datetime.now(UTC) - utc(moment)).total_seconds()))
    said = "just now" if seconds < 5 else f"{duration(seconds)} ago"
    exact = f"{utc(moment):%-d %b %Y, %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}" data-age="{}">{}</time>').format(iso(moment), exact, seconds, said)


def day(moment: datetime | None) -> str:
    """The day of a moment: ``24 Nov 2026``."""
    return f"{utc(moment):%-d %b %Y}" if moment else "–"


def iso(moment: datetime | None) -> str:
    """For the `datetime` attribute of <time>."""
    return utc(moment).isoformat(timespec="seconds") if moment else ""


def humane(name: str) -> str:
    """``questions_per_step`` -> ``Questions per step``."""
    return name.replace("_", " ").capitalize()


def algorithm(name: str) -> str:
    """An algorithm as it is written."""
    return {"opcod": "OPCoD"}.get(name, name.upper())


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the page."""

    name: str
    """Empty where nobody has signed in."""
    signs_in: bool
    """Whether people sign in here at all."""
    may_launch: bool
    is_admin: bool
    csrf: str

    @property
    def csrf_field(self) -> Markup:
        """Stands in every form that is sent by POST, so that it is known as ours without scripts too."""
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.csrf) if self.csrf else Markup("")

    @property
    def csrf_headers(self) -> str:
        """For htmx, which sends them with every request of the page."""
        return json.dumps({"X-CSRF-Token": self.csrf})

    def may_change(self, owner: str) -> bool:
        """Whether what belongs to `owner` is theirs to change."""
        return self.is_admin or (self.may_launch and owner == self.name)


def viewer_of(request: Request) -> Viewer:
    """Who looks, as the gate found; nobody where a request did not get as far as that."""
    person: Person | None = getattr(request.state, "person", None)
    signs_in = request.app.state.settings.auth == "password"
    csrf = getattr(request.state, "csrf", "")
    if person is None:
        return Viewer("", signs_in, False, False, csrf)
    return Viewer(person.name, signs_in, person.may_launch, person.is_admin, csrf)


@cache
def _digest(path: Path, modified: float) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def static(name: str) -> str:
    """Address of a file under static/, changing with its content so that browsers may keep it for ever."""
    path = STATIC / name
    return f"/static/{name}?v={_digest(path, path.stat().st_mtime)}"


def ticked(text: str) -> Markup:
    """Escaped text in which `this` is set as code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(shown(text)))))


def figure(value: float, name: str) -> str:
    """A figure of an estimate in words, by its name there."""
    return _FIGURES[name](value)


def figure_range(estimated: Any, name: str) -> str:
    """The range of a figure of an estimate."""
    return between(estimated.low, estimated.high, _FIGURES[name])


_FIGURES = {name: words for _, name, words in FIGURES}


def plain(value: Any) -> Any:
    """A configuration's value as text: lists and mappings shortened, nothing spelled out."""
    return "nothing" if value is None else "yes" if value is True else "no" if value is False else value


@cache
def word(name: str, text: str | None = None) -> Markup:
    """A word of the product with its one-line explanation, linked to the method's page. Templates' own words only: all are kept."""
    return Markup(ENVIRONMENT.get_template("partials/word.html").render(word=WORDS[name.lower()], text=text or name))


@lru_cache(maxsize=1_000)
def form_field(field: Any) -> Markup:
    """An input of the launch form. Most are as they were when somebody last opened it: the newest are kept, of a kilobyte each."""
    return Markup(ENVIRONMENT.get_template("partials/form_field.html").render(field=field))


class FlatEnvironment(Environment):
    """Gives each template its globals as a plain dict: Jinja's own chain of maps is walked anew at every include of every row."""

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """All globals; those of the environment are set before the first template is loaded."""
        return {**self.globals, **(d or {})}


def make_environment() -> Environment:
    """The one environment of all pages: autoescape for every template, undefined names are errors."""
    environment = FlatEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else each include of each row asks the file system whether its template has changed
        cache_size=-1,
    )
    filters = (algorithm, ticked, shown, percent, signed, number, duration, ago, day, iso, humane, plain, figure, figure_range)
    environment.filters.update({function.__name__: function for function in filters})
    environment.globals.update(static=static, word=word, form_field=form_field, marker=marker)
    environment.globals.update(MENDED=MENDED, OUTCOMES=OUTCOMES, STATUSES=STATUSES, PARTS=PARTS)
    return environment


ENVIRONMENT = make_environment()


def render_text(template: str, **context: Any) -> str:
    """A template's text. Dataclass instances are passed by name; a partial takes exactly one of them."""
    return ENVIRONMENT.get_template(template).render(**context)


def render(request: Request, template: str, status: int = 200, headers: dict[str, str] | None = None, **context: Any) -> HTMLResponse:
    """A template as a response; `path` tells the navigation where it is."""
    for value in context.values():
        if not (dataclasses.is_dataclass(value) or value is None):
            raise TypeError(f"{template} must be given typed contexts, not {type(value).__name__}")
    text = render_text(template, path=request.url.path, viewer=viewer_of(request), **context)
    return HTMLResponse(text, status_code=status, headers=headers)
