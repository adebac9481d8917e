from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import now
from app.templating import ENVIRONMENT, STATIC, ago, duration, humane, number, percent, shown, signed, static, ticked


@given(st.text())
def test_shown_text_cannot_turn_or_hide_anything(text: str) -> None:
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]", shown(text))


def test_shown_keeps_what_people_write() -> None:
    text = "Größe: 5 µm\tα → β\n中文 עברית 👩 ∑"
    assert shown(text) == text
    assert shown("a\u202eb") == "a⟨U+202E⟩b"
    assert shown(None) == ""


def test_marks_do_not_pile_up() -> None:
    assert shown("Z" + "\u0351" * 300) == "Z" + "\u0351" * 8 + "⟨292 more marks⟩"
    assert shown("\u0e01\u0e49 e\u0301 \u0928\u0940") == "\u0e01\u0e49 e\u0301 \u0928\u0940"


@given(st.text(st.sampled_from("<>&\"'`ab \n")))
def test_ticked_text_holds_no_markup_but_code(text: str) -> None:
    assert not set(re.sub(r"</?code>|&\w+;|&#\d+;", "", str(ticked(text)))) & set("<>&\"'")


@pytest.mark.parametrize(("value", "text"), [(0.125, "12.5"), (1.0, "100.0"), (None, "–")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.1, "+10.0"), (-0.034, "−3.4"), (0.0, "±0.0"), (-0.0001, "±0.0"), (None, "")])
def test_signed(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"), (200_000, "2 d"), (-3, "0 s"), (None, "–")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_ages_and_numbers() -> None:
    assert ago(now()).striptags() == "just now"
    assert ago(now() - timedelta(minutes=3)).striptags() == "3 min ago"
    assert ago(now() + timedelta(minutes=3)).striptags() == "just now", "a clock that was set back"
    assert 'title="1 Feb 2026, 03:04:05 UTC"' in ago(datetime(2026, 2, 1, 3, 4, 5, tzinfo=UTC))
    assert ago(None) == "–"
    assert number(12_345) == "12\u2009345"
    assert number(0.012345) == "0.0123"
    assert humane("questions_per_step") == "Questions per step"


def test_addresses_of_static_files_change_with_their_content() -> None:
    assert re.fullmatch(r"/static/app\.css\?v=[0-9a-f]{10}", static("app.css"))
    assert static("app.css") != static("charts.js").replace("charts.js", "app.css")


def test_every_template_compiles_and_keeps_the_law(templates: Path) -> None:
    """No inline script or style, nothing unescaped; partials never extend, pages only include."""
    names = [path.relative_to(templates).as_posix() for path in templates.rglob("*.html")]
    assert len(names) > 20
    for name in names:
        ENVIRONMENT.get_template(name)
        text = (templates / name).read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)|\|\s*safe\b|hx-on", text), name
        if name.startswith("partials/"):
            assert "{% extends" not in text, name
        if name.startswith("pages/"):
            assert text.startswith('{% extends "base.html" %}'), name


def test_vendored_files_stand_beside_their_licences() -> None:
    stems = {re.sub(r"(\.min)?\.(js|css)$", "", path.name) for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert stems == {path.name.removesuffix(".LICENSE") for path in (STATIC / "vendor").glob("*.LICENSE")}
