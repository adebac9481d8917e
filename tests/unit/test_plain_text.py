"""Text made fit for terminals, logs, databases and folders, whatever it was."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcod.plain_text import bounded, folder_name, harmless, storable
from tests.hostile import PAYLOADS, Payload

ANY_TEXT = st.one_of(st.text(st.characters(codec=None, categories=None)), st.sampled_from([payload.text for payload in PAYLOADS]))
"""Lone surrogates and control characters among them."""

each = pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)


@given(ANY_TEXT)
def test_no_control_reaches_a_terminal(text: str) -> None:
    told = harmless(text, keep="\n")
    assert all(character == "\n" or unicodedata.category(character)[0] not in "C" for character in told)
    assert told.count("\n") == text.count("\n")
    assert "\n" not in harmless(text)


@given(ANY_TEXT)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    seen = "".join(character for character in text if character.isprintable())
    assert harmless(seen) == seen


@given(ANY_TEXT)
def test_stored_text_can_be_encoded_and_keeps_its_length(text: str) -> None:
    kept = storable(text)
    assert "\x00" not in kept
    kept.encode()
    assert len(kept) == len(text)
    assert storable(kept) == kept


@each
def test_payloads_are_kept_but_for_what_no_database_takes(payload: Payload) -> None:
    assert storable(payload.text) == payload.stored


@given(ANY_TEXT, st.integers(60, 300))
def test_bounds_hold_and_say_what_they_cut(text: str, most: int) -> None:
    told = bounded(text, most)
    assert len(told) <= most
    assert told == text or f"{len(text):,} characters" in told


@given(ANY_TEXT)
def test_a_name_is_one_folder_and_no_path(text: str) -> None:
    name = folder_name(text)
    assert Path("/runs", name).resolve().parent == Path("/runs")
    assert not name.startswith((".", "-", "~"))
    assert name.isprintable()
