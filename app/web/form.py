"""The launch form, made from `ExperimentConfig`'s JSON schema: nothing about a setting is written twice.

`build_form` turns the schema and plain data into a tree that templates walk; `read_form` turns what a
browser sends (`students.0.name=student1`) back into plain data. Neither judges values: that is
`opcod.config`'s work, and its faults come in by dotted path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from app.templating import humane
from opcod.config import ExperimentConfig

FieldKind = Literal["text", "long", "integer", "number", "choice", "check"]
LONG_TEXT = 2_000
"""A text that may be this long gets a large box."""
OPEN_SECTIONS = ("general", "students", "domains", "method", "schedule")
OPEN_GROUPS = re.compile(r"^(method\.gate|domains\.\d+\.verifier|compute\.adapters)$")
WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,30}\s*")
TITLES = {
    "optimizer": "Optimiser",
    "grpo": "GRPO",
    "top_k": "Top K",
    "top_p": "Top p",
    "gpus": "GPUs",
    "id": "ID",
    "url": "URL",
    "dtype": "Precision",
}
ABOUT = {"general": "What you call it, and where chance begins.", "students": "Two or more.", "domains": "One or more."}


@dataclass(frozen=True, slots=True)
class FormField:
    """One input. `path` is its dotted name and its place in the configuration."""

    path: str
    label: str
    kind: FieldKind
    value: str
    description: str
    unit: str
    source: str
    limits: str
    default: str
    choices: tuple[str, ...]
    optional: bool
    required: bool
    error: str


@dataclass(frozen=True, slots=True)
class FormGroup:
    """Fields that belong together, with groups inside. `switch` names the hidden entry of a group that may be absent."""

    path: str
    title: str
    about: str
    fields: tuple[FormField, ...]
    groups: tuple[FormGroup, ...]
    items: tuple[FormGroup, ...] = ()
    """Members of a repeated group."""
    repeated: bool = False
    removable: bool = False
    extendable: bool = False
    switch: FormField | None = None
    open: bool = False
    faults: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The whole form. `loose` are faults that belong to no field."""

    sections: tuple[FormGroup, ...]
    domains: tuple[str, ...]
    loose: tuple[tuple[str, str], ...] = ()


@dataclass
class _Builder:
    faults: dict[str, list[str]]
    shown: set[str] = field(default_factory=set)

    def error(self, path: str) -> str:
        self.shown.add(path)
        return " ".join(self.faults.get(path, ()))

    def count(self, path: str) -> int:
        return sum(1 for fault in self.faults if fault == path or fault.startswith(f"{path}."))

    def group(self, path: str, schema: Mapping[str, Any], data: Any, *, only: Sequence[str] | None = None) -> FormGroup:
        data = data if isinstance(data, Mapping) else {}
        fields, groups = [], []
        for name, entry in _resolve(schema).get("properties", {}).items():
            if only is not None and name not in only:
                continue
            below, optional = _unwrap(entry)
            place = f"{path}.{name}" if path else name
            value = data.get(name, entry.get("default"))
            if below.get("type") == "object":
                group = self.group(place, below, value)
                if optional:
                    fields_shown = group.fields if value is not None else ()
                    switch = self.field(place, {"type": "boolean", "description": entry.get("description", "")}, value is not None)
                    group = replace(group, switch=switch, fields=fields_shown)
                groups.append(group)
            elif below.get("type") == "array" and _resolve(below.get("items", {})).get("type") == "object":
                groups.append(self.repeated(place, below, value))
            else:
                fields.append(self.field(place, entry, value, required=name in _resolve(schema).get("required", ())))
        about = str(_resolve(schema).get("description", "")).split("\n\n")[0]
        faults = self.count(path)
        opened = bool(faults) or OPEN_GROUPS.match(path) is not None
        return FormGroup(path, _title(path), about, tuple(fields), tuple(groups), open=opened, faults=faults)

    def repeated(self, path: str, schema: Mapping[str, Any], data: Any) -> FormGroup:
        data = data if isinstance(data, Sequence) and not isinstance(data, str) else []
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1_000)
        items = []
        for index, value in enumerate(data):
            item = _fold(self.group(f"{path}.{index}", schema["items"], value))
            items.append(
                replace(
                    item, title=f"{_title(path).removesuffix('s')} {index + 1}", removable=len(data) > least, error=self.error(item.path)
                )
            )
        return FormGroup(
            path, _title(path), ABOUT.get(path, ""), (), (), tuple(items), repeated=True, extendable=len(data) < most,
            faults=self.count(path), error=self.error(path),
        )  # fmt: skip

    def field(self, path: str, schema: Mapping[str, Any], value: Any, *, required: bool = False) -> FormField:
        below, optional = _unwrap(schema)
        kind = _kind(below)
        return FormField(
            path=path,
            label=_title(path),
            kind=kind,
            value=_text(value),
            description=schema.get("description", ""),
            unit=schema.get("unit", ""),
            source=schema.get("source", ""),
            limits=_limits(next((choice for choice in below.get("anyOf", ()) if choice.get("type") == "integer"), below)),
            default=_text(schema["default"]) if "default" in schema else "",
            choices=tuple(str(choice) for choice in below.get("enum", ())),
            optional=optional,
            required=required,
            error=self.error(path),
        )


@cache
def schema() -> dict[str, Any]:
    """The configuration's JSON schema."""
    return ExperimentConfig.model_json_schema()


def build_form(data: Mapping[str, Any], faults: Iterable[tuple[str, str]] = ()) -> Form:
    """The form that shows `data` (which need not be valid) with `faults` beside their fields."""
    by_path: dict[str, list[str]] = {}
    for path, message in faults:
        by_path.setdefault(path, []).append(message)
    builder = _Builder(by_path)
    properties = schema()["properties"]
    scalars = [name for name, entry in properties.items() if "$ref" not in entry and entry.get("type") != "array"]
    general = builder.group("", schema(), data, only=scalars)
    sections = [replace(general, path="general", title="General", faults=sum(bool(entry.error) for entry in general.fields))]
    for name in properties:
        if name not in scalars:
            sections.extend(builder.group("", schema(), data, only=[name]).groups)
    opened = tuple(
        replace(section, about=ABOUT.get(section.path, section.about), open=section.path in OPEN_SECTIONS or section.faults > 0)
        for section in sections
    )
    loose = tuple((path, " ".join(messages)) for path, messages in by_path.items() if path not in builder.shown)
    domains = data.get("domains")
    names = [item.get("name") for item in domains if isinstance(item, Mapping)] if isinstance(domains, list) else []
    return Form(opened, tuple(str(name) for name in names if name), loose)


def read_form(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What a browser sent, as plain data. The last of several values wins; names that are no setting are left out.

    Numbers that cannot be read stay text, so that validation can say what is wrong with them.
    """
    sent: dict[str, str] = dict(pairs)
    return _read_object("", schema(), sent)


def change_list(data: dict[str, Any], change: str) -> dict[str, Any]:
    """`data` after ``add:students`` or ``remove:domains.1``; anything else changes nothing."""
    action, _, path = change.partition(":")
    name, _, index = path.partition(".")
    items = data.get(name)
    if not isinstance(items, list) or schema()["properties"].get(name, {}).get("type") != "array":
        return data
    if action == "add":
        taken = {item.get("name") for item in items if isinstance(item, dict)}
        count = next(number for number in range(len(items) + 1, len(items) + 1_000) if f"{name[:-1]}{number}" not in taken)
        return {**data, name: [*items, {"name": f"{name[:-1]}{count}"}]}
    if action == "remove" and index.isdecimal():
        return {**data, name: [item for place, item in enumerate(items) if place != int(index)]}
    return data


def _read_object(path: str, schema_: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, entry in _resolve(schema_).get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        below, optional = _unwrap(entry)
        if below.get("type") == "object":
            if not optional or sent.get(place) == "true":
                data[name] = _read_object(place, below, sent)
            elif place in sent:
                data[name] = None
        elif below.get("type") == "array" and _resolve(below.get("items", {})).get("type") == "object":
            numbers = sorted({int(match[1]) for key in sent if (match := re.match(rf"{re.escape(place)}\.(\d{{1,4}})\.", key))})
            data[name] = [_read_object(f"{place}.{number}", below["items"], sent) for number in numbers]
        elif place in sent:
            data[name] = _value(below, optional, sent[place])
    return data


def _value(below: Mapping[str, Any], optional: bool, text: str) -> Any:
    text = text.replace("\r\n", "\n")
    if optional and not text.strip():
        return None
    kind = _kind(below)
    if kind == "check":
        return text == "true"
    if kind in ("integer", "number"):
        try:
            return int(text) if WHOLE_NUMBER.fullmatch(text) else float(text)
        except ValueError:
            return text
    kinds = {choice.get("type") for choice in below.get("anyOf", ())}
    if "integer" in kinds and WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if "array" in kinds and "," in text:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _fold(item: FormGroup) -> FormGroup:
    """Long texts and settings that have a value by themselves go under "More" in a member of a repeated group."""
    rare = [entry for entry in item.fields if entry.kind == "long" or entry.default]
    if not rare:
        return item
    faults = sum(bool(entry.error) for entry in rare)
    more = FormGroup(f"{item.path}.more", "More", "", tuple(rare), (), open=faults > 0, faults=faults)
    return replace(item, fields=tuple(entry for entry in item.fields if entry not in rare), groups=(*item.groups, more))


def _resolve(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in entry:
        found: Mapping[str, Any] = schema()["$defs"][entry["$ref"].removeprefix("#/$defs/")]
        return found
    return entry


def _unwrap(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema of the value itself, and whether nothing is allowed too."""
    choices = [choice for choice in entry.get("anyOf", ()) if choice.get("type") != "null"]
    optional = len(choices) < len(entry.get("anyOf", ()))
    return _resolve(choices[0] if len(choices) == 1 else entry), optional


def _kind(below: Mapping[str, Any]) -> FieldKind:
    if "enum" in below:
        return "choice"
    kinds: dict[str, FieldKind] = {"boolean": "check", "integer": "integer", "number": "number"}
    kind = kinds.get(below.get("type", ""), "text")
    return "long" if kind == "text" and below.get("maxLength", 0) >= LONG_TEXT else kind


def _limits(below: Mapping[str, Any]) -> str:
    """Bounds in words: ``1 to 16``, ``Above 0, at most 1``."""
    low = ("minimum", "at least"), ("exclusiveMinimum", "above")
    high = ("maximum", "at most"), ("exclusiveMaximum", "below")
    bounds = [f"{words} {below[key]:,}" for key, words in (*low, *high) if key in below and below[key] < 2**31 - 1]
    if {"minimum", "maximum"} <= below.keys() and len(bounds) == 2:
        return f"{below['minimum']:,} to {below['maximum']:,}"
    text = ", ".join(bounds)
    return text[:1].upper() + text[1:]


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.12g}"
        case list():
            return ", ".join(str(item) for item in value)
    return str(value)


def _title(path: str) -> str:
    name = path.rpartition(".")[2]
    return TITLES.get(name, humane(name))


def walk(groups: Iterable[FormGroup]) -> Iterator[FormField]:
    """Every field of the form, in the order of the page."""
    for group in groups:
        yield from group.fields
        if group.switch:
            yield group.switch
        yield from walk((*group.items, *group.groups))
