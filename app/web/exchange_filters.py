"""The inspector's filter in the address: the same names as REST's, so that one address serves both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from app import shapes
from app.records.exchange_queries import NO_FEEDBACK, ExchangeFilters
from app.records.labels import STAR
from app.records.search_terms import LONGEST as LONGEST_SEARCH
from app.web.words import OUTCOMES
from opcod.types import FeedbackOutcome

LARGEST_COUNT = 2**31 - 1
MOST_IDS = 500
NAMES: Mapping[str, str] = {"outcomes": "outcome", "search": "q", "ids": "id"}
"""Field -> its name in the address, where that differs."""
EFFECTS = {"break": "Break", "rescue": "Rescue"}
_YES = {"true": True, "yes": True, "false": False, "no": False}


def whole(text: str | None) -> int | None:
    """A whole number that a database can hold, or None."""
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def read_filters(given: QueryParams) -> ExchangeFilters:
    """What the address asks for. Values that make no sense count as nothing."""

    def count(name: str) -> int | None:
        number = whole(given.get(name))
        return number if number is not None and number <= LARGEST_COUNT else None

    def words(name: str, longest: int = 64) -> str | None:
        return given.get(name, "")[:longest] or None

    known = (*get_args(FeedbackOutcome), NO_FEEDBACK)
    effect = given.get("effect", "")
    return ExchangeFilters(
        round=count("round"),
        step=count("step"),
        tutee=words("tutee"),
        tutor=words("tutor"),
        domain=words("domain"),
        question=words("question", 1_000),
        correct=_YES.get(given.get("correct", "")),
        in_loss=_YES.get(given.get("in_loss", "")),
        outcomes=tuple(dict.fromkeys(outcome for outcome in given.getlist("outcome") if outcome in known)),
        effect=effect if effect in EFFECTS else None,
        label=words("label"),
        search=words("q", LONGEST_SEARCH),
        ids=tuple(key for key in map(whole, given.getlist("id")[:MOST_IDS]) if key),
    )


def query_of(filters: ExchangeFilters, **more: Any) -> str:
    """The part of an address that says this and `more`, with its question mark; "" for nothing."""
    pairs: list[tuple[str, Any]] = []
    for field in fields(filters):
        value = getattr(filters, field.name)
        name = NAMES.get(field.name, field.name)
        if isinstance(value, tuple):
            pairs += [(name, one) for one in value]
        elif value is not None and value != "":
            pairs.append((name, str(value).lower() if isinstance(value, bool) else value))
    pairs += [(name, value) for name, value in more.items() if value not in (None, "")]
    return f"?{urlencode(pairs)}" if pairs else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One value to filter by: what it is called, how many exchanges it would leave (None: not counted), and where it leads."""

    label: str
    count: int | None
    chosen: bool
    query: str
    hue: int = 0
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Values of one filter."""

    name: str
    heading: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set, and the address without it."""

    name: str
    value: str
    query: str


GROUPS: tuple[tuple[str, str], ...] = (
    ("correct", "Answer"),
    ("effect", "Break or rescue"),
    ("outcome", "Feedback"),
    ("domain", "Domain"),
    ("tutee", "Tutee"),
    ("tutor", "Tutor"),
    ("in_loss", "In loss"),
    ("round", "Round"),
)
"""Facet, and its heading."""


def said(name: str, value: str) -> str:
    """A filter's value as people read it."""
    if name == "correct":
        return {"true": "Correct", "false": "Wrong"}[value]
    if name == "in_loss":
        return {"true": "Counted", "false": "Left out"}[value]
    if name == "outcome":
        return "No tutor" if value == NO_FEEDBACK else OUTCOMES[value][0]  # type: ignore[index]
    if name == "effect":
        return EFFECTS.get(value, "Neither")
    return value


def toggled(filters: ExchangeFilters, name: str, value: str) -> ExchangeFilters:
    """The filter with this value chosen, or without it where it is."""
    if name == "outcome":
        chosen = filters.outcomes
        return replace(filters, outcomes=tuple(one for one in chosen if one != value) if value in chosen else (*chosen, value))
    typed: Any = _YES[value] if name in ("correct", "in_loss") else int(value) if name == "round" else value
    return _with(filters, name, None if getattr(filters, name) == typed else typed)


def _with(filters: ExchangeFilters, name: str, value: Any) -> ExchangeFilters:
    change: dict[str, Any] = {name: value}
    return replace(filters, **change)


def groups(filters: ExchangeFilters, facets: shapes.Facets, hues: Mapping[str, int]) -> tuple[Group, ...]:
    """Everything there is to choose from. A group of one value that is not chosen says nothing, and is left out."""
    made = []
    counted = {facet.name: {value.value: value.exchanges for value in facet.values} for facet in facets.facets}
    for name, heading in GROUPS:
        values = dict(counted.get(name, {}))
        for value in _chosen(filters, name):
            values.setdefault(value, 0)
        if name in ("effect", "tutor"):
            values.pop("none", None)
        chosen = _chosen(filters, name)
        if not values or (len(values) == 1 and not chosen and name not in ("effect",)):
            continue
        ordered = sorted(values, key=lambda value: (int(value) if name == "round" else 0, value))
        choices = tuple(
            Choice(
                label=said(name, value),
                count=values[value] if not facets.more else None,
                chosen=value in chosen,
                query=query_of(toggled(filters, name, value)),
                hue=hues.get(value, 0) if name in ("tutee", "tutor") else 0,
                tone=value if name in ("outcome", "correct", "effect") else "",
            )
            for value in (reversed(ordered) if name == "correct" else ordered)
        )
        made.append(Group(name, heading, choices))
    return tuple(made)


def _chosen(filters: ExchangeFilters, name: str) -> tuple[str, ...]:
    if name == "outcome":
        return tuple(filters.outcomes)
    value = getattr(filters, name)
    return () if value is None else (str(value).lower() if isinstance(value, bool) else str(value),)


def chips(filters: ExchangeFilters) -> tuple[Chip, ...]:
    """Every filter that is set, each to be taken off."""
    found = [
        Chip(heading, said(name, value), query_of(toggled(filters, name, value)))
        for name, heading in GROUPS
        for value in _chosen(filters, name)
    ]
    single = (("search", "Text"), ("step", "Step"), ("question", "Question"), ("label", "Label"))
    for name, heading in single:
        value = getattr(filters, name)
        if value is not None:
            shown = "★ starred" if name == "label" and value == STAR else str(value)
            found.append(Chip(heading, shown, query_of(_with(filters, name, None))))
    if filters.ids:
        found.append(Chip("Picked", f"{len(filters.ids)} exchanges", query_of(replace(filters, ids=()))))
    return tuple(found)
