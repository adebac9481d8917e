"""The launch page: presets, the form and its YAML, what is wrong with it, and what differs from where it began."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from secrets import token_urlsafe
from typing import Any, Literal, get_args

import yaml
from sqlmodel import Session

from app.errors import Fault, Invalid, NotFound
from app.experiments import estimates, preflights
from app.experiments.experiments import check_experiment
from app.records import queries
from app.templating import algorithm
from app.web.exchange_filters import whole
from app.web.form import Form, build_form, change_list, read_form
from app.web.launch_library import Offer, begin_with, offers, take_in
from app.web.preflight_page import Panel, panel_of
from opcod.config import PRESET_FOLDER, ExperimentConfig, differences, load_preset, parse_config, parse_yaml, preset_names
from opcod.errors import ConfigError
from opcod.estimation.figures import Estimate
from opcod.relevance import unused
from opcod.types import Algorithm

Tab = Literal["form", "yaml"]
FIRST = ("demo", "tiny", "demo-sdpo", "demo-grpo", "demo-novice", "paper")
"""Presets that come first; the others follow by name."""


@dataclass(frozen=True, slots=True)
class PresetCard:
    """A preset to start from."""

    name: str
    title: str
    about: str
    facts: str
    current: bool


@dataclass(frozen=True, slots=True)
class FaultLine:
    """Something wrong: where (dotted path, and the YAML's line if that is what was sent), what, and what to do."""

    path: str
    message: str
    advice: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs from where the form began."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on what is in the form: `faults` keep it from being launched."""

    faults: tuple[FaultLine, ...]
    changes: tuple[Change, ...]
    origin: str
    """What the changes are against: a preset's or a run's name; "" for nothing."""
    estimate: Estimate | None
    """What it will take; None where something is to be mended first."""
    unused: tuple[tuple[str, str], ...]
    """(path, why) of what the other settings make no use of."""
    outdated: bool
    """Settings have changed since the pre-flight."""


@dataclass(frozen=True, slots=True)
class LaunchForm:
    """The form in one of its two views."""

    tab: Tab
    form: Form
    yaml: str
    preset: str
    source: str
    """Id of the run that it was copied from, as text; "" for none."""
    key: str
    """Makes a second press of the button the same launch as the first."""
    check: Check
    library: tuple[Offer, ...]
    """Domains that can be added."""
    panel: Panel
    """The pre-flight that was asked for from this form, if any."""


@dataclass(frozen=True, slots=True)
class LaunchPage:
    """The whole page."""

    presets: tuple[PresetCard, ...]
    launch: LaunchForm


@dataclass(frozen=True, slots=True)
class Submission:
    """What a browser sent. `data` is None where the YAML could not be read; `faults` says why."""

    tab: Tab
    data: dict[str, Any] | None
    yaml: str
    preset: str
    source: str
    key: str
    faults: tuple[Fault, ...] = ()
    change: str = ""
    """To the form, where the library has part in it."""
    preflight: str = ""
    """Number of the last pre-flight that was asked for, as text."""


def presets(current: str) -> tuple[PresetCard, ...]:
    """Cards of all presets."""
    order = sorted(preset_names(), key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return tuple(_card(name, name == current) for name in order)


def new_page(session: Session, preset: str, source: str, domain: str = "", preflight: str = "") -> LaunchPage:
    """The page as it opens: from a pre-flight or a run (their ids as text), else from a preset, else from the first preset.

    `domain` is the number of one to have instead of the preset's, as text.

    Raises:
        NotFound: there is no such pre-flight, no such run, or no such domain.
    """
    if preflight:
        looked_at = preflights.settings(session, whole(preflight) or 0)
        return LaunchPage(presets(""), view(session, Submission("form", looked_at, "", "", "", "", preflight=preflight)))
    if not source and preset not in preset_names():
        preset = presets("")[0].name
    data = origin_config(session, preset, source).model_dump(mode="json")
    if domain:
        data = begin_with(session, data, int(domain) if domain.isdecimal() and len(domain) < 10 else 0)
    submission = Submission("form", data, "", "" if source else preset, source, "")
    return LaunchPage(presets(submission.preset), view(session, submission))


def origin_config(session: Session, preset: str, source: str) -> ExperimentConfig:
    """The configuration that the form began with.

    Raises:
        NotFound: there is no such run.
        ConfigError: there is no such preset.
    """
    if source:
        run = queries.run(session, int(source) if source.isdecimal() else 0)
        return parse_config(queries.experiment(session, run.experiment_id).config)
    return parse_config(load_preset(preset))


def submission(pairs: Iterable[tuple[str, str]]) -> Submission:
    """What the form sent, read by the view that it was in; a change to a list (`change=add:students`) is made.

    `tab=preset` is a preset as it is, for launching it with one click.

    Raises:
        ConfigError: there is no such preset.
    """
    sent = list(pairs)
    last = dict(sent)
    preset, source, key = last.get("preset", ""), last.get("from", ""), last.get("key", "")[:64]
    looked = last.get("preflight", "")
    if last.get("tab") == "preset":
        return Submission("form", load_preset(preset), "", preset, "", key)
    if last.get("tab") == "yaml":
        text = last.get("yaml", "").replace("\r\n", "\n")
        try:
            return Submission("yaml", parse_yaml(text), text, preset, source, key, preflight=looked)
        except ConfigError as error:
            return Submission("yaml", None, text, preset, source, key, (Fault("", error.message, error.advice),), preflight=looked)
    change = last.get("change", "")
    return Submission("form", change_list(read_form(sent), change), "", preset, source, key, change=change, preflight=looked)


def known_preset(sent: Submission) -> str | None:
    """The preset to remember with the experiment."""
    return sent.preset if sent.preset in preset_names() else None


def judge(sent: Submission) -> tuple[ExperimentConfig | None, tuple[Fault, ...]]:
    """The configuration, or what keeps it from being one; the same rules as the REST interface's."""
    if sent.data is None:
        return None, sent.faults
    try:
        return check_experiment(None, None, sent.data), ()
    except Invalid as invalid:
        return None, invalid.faults


def view(session: Session, sent: Submission, tab: Tab | None = None) -> LaunchForm:
    """The form as it is to be shown, in `tab`. YAML that cannot be read, or says more than the form can show, stays YAML."""
    if sent.tab == "form" and sent.data is not None:
        sent = replace(sent, data=take_in(session, sent.data, sent.change), change="")
    config, faults = judge(sent)
    wanted = tab or sent.tab
    form = build_form(sent.data or {}, [(fault.field, fault.message) for fault in faults])
    if wanted == "form" and sent.tab == "yaml" and (sent.data is None or form.loose):
        wanted = "yaml"
    text = sent.yaml
    if wanted == "yaml" and sent.tab == "form":
        text = config.to_yaml() if config else yaml.safe_dump(sent.data, sort_keys=False, allow_unicode=True)
    check = _check(session, sent, config, faults, text if wanted == "yaml" else "")
    key, panel = sent.key or token_urlsafe(16), _panel(session, sent.preflight)
    return LaunchForm(wanted, form, text, sent.preset, sent.source, key, check, offers(session), panel)


def _panel(session: Session, preflight: str) -> Panel:
    """The pre-flight's, where the form knows of one."""
    try:
        return panel_of(session, whole(preflight) or 0)
    except NotFound:
        return Panel()


def _outdated(session: Session, preflight: str, config: ExperimentConfig) -> bool:
    """Whether the pre-flight that the form knows of looked at another experiment than `config` is now."""
    try:
        return not preflights.same(preflights.settings(session, whole(preflight) or 0), config.model_dump(mode="json"))
    except NotFound:
        return False


def _check(session: Session, sent: Submission, config: ExperimentConfig | None, faults: Iterable[Fault], text: str) -> Check:
    lines = _lines(text)
    found = tuple(FaultLine(fault.field, fault.message, fault.advice, _line(lines, fault)) for fault in faults)
    estimate = estimates.estimate_of(session, config) if config else None
    idle = tuple(unused(sent.data or {}))
    outdated = config is not None and _outdated(session, sent.preflight, config)
    if not (sent.preset in preset_names() or sent.source):
        return Check(found, (), "", estimate, idle, outdated)
    origin = origin_config(session, sent.preset, sent.source)
    changes = tuple(Change(path, before, after) for path, before, after in differences(origin, config)) if config else ()
    return Check(found, changes, f"run {sent.source}" if sent.source else f"the {sent.preset} preset", estimate, idle, outdated)


@cache
def _card(name: str, current: bool) -> PresetCard:
    """What a preset says of itself: the comment at its file's head, and its size."""
    config = parse_config(load_preset(name))
    lines = (PRESET_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    about = " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))
    size = f"{config.schedule.rounds} × {config.schedule.steps_per_round} steps"
    title = " ".join(algorithm(part) if part in get_args(Algorithm) else part for part in name.split("-"))
    return PresetCard(
        name,
        title[:1].upper() + title[1:],
        about,
        f"{algorithm(config.method.algorithm)} · {size} · {len(config.students)} students",
        current,
    )


def _lines(text: str) -> Mapping[str, int]:
    """Dotted path -> line of the YAML at which its entry stands."""
    lines: dict[str, int] = {}
    seen: set[int] = set()

    def visit(node: yaml.Node | None, path: str) -> None:
        if id(node) in seen:  # an alias, perhaps of itself
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = f"{path}.{key.value}" if path else str(key.value)
                lines[below] = key.start_mark.line + 1
                visit(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                below = f"{path}.{index}"
                lines[below] = value.start_mark.line + 1
                visit(value, below)

    if text:
        try:
            visit(yaml.compose(text, Loader=yaml.SafeLoader), "")
        except (yaml.YAMLError, RecursionError):
            return {}
    return lines


def _line(lines: Mapping[str, int], fault: Fault) -> int | None:
    """The line of the fault's entry, or of the nearest around it; of YAML that cannot be read, the line that its message names."""
    named = re.search(r" at line (\d+), column", fault.message)
    if not fault.field and named:
        return int(named[1])
    path = fault.field
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)
