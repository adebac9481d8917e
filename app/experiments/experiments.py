"""Experiments: what to run, checked as deeply as can be done without loading a model, before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from sqlmodel import Session

from app.db import insert_into
from app.errors import Fault, Invalid
from app.guards import roots, servers
from app.tables import DomainRow, ExperimentRow, StudentRow
from opcod.config import DomainConfig, ExperimentConfig, StudentConfig, config_faults, load_preset, merge
from opcod.errors import ModelError, UserError
from opcod.feedback.prompts import check_templates
from opcod.students.references import check_top_k, locate, vocabulary
from opcod.tasks.questions import load_domain, load_domains
from opcod.tasks.sources import split_slice

UNLABELLED = "config"
"""Where a fault points that names no field."""


def check_experiment(name: str | None, preset: str | None, overrides: Mapping[str, Any] | None, *, deep: bool = True) -> ExperimentConfig:
    """The whole configuration: preset, overrides laid over it, the name over both.

    `deep` also reads the data files, looks into the students' folders and tries the templates.

    Raises:
        Invalid: one fault for each field at fault, paths as in the YAML file.
    """
    data: dict[str, Any] = {}
    if preset:
        try:
            data = load_preset(preset)
        except UserError as error:
            raise Invalid([Fault("preset", error.message, error.advice)]) from None
    data = merge(data, overrides or {})
    if name:
        data["name"] = name
    try:
        config = ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise Invalid([Fault(path or UNLABELLED, message, _help(path)) for path, message in config_faults(error)]) from None
    if deep:
        check_deeply(config)
    return config


def check_deeply(config: ExperimentConfig) -> None:
    """Look at what the configuration names: students, data, templates.

    Data on the hub, and Parquet where nothing here reads it, is left to the worker, which looks before it trains.

    Raises:
        Invalid: every fault that was found.
    """
    outside = roots.faults(config) + servers.faults(config)
    if outside:
        raise Invalid(outside)  # before anything is opened
    checks: list[tuple[str, Callable[[], object]]] = [("method", partial(check_templates, config.method))]
    checks += [(f"students.{index}.model", partial(locate, student.model)) for index, student in enumerate(config.students)]
    checks += [("method.loss.top_k", partial(_check_vocabulary, config, student)) for student in config.students]
    faults = _faults(checks) + _domain_faults(config.domains)
    if faults:
        raise Invalid(faults)


def _check_vocabulary(config: ExperimentConfig, student: StudentConfig) -> None:
    """As far as the student's folder tells; a reference that names nothing is another check's fault."""
    with suppress(ModelError):
        check_top_k(config, student.name, vocabulary(student.model))


def _domain_faults(domains: Sequence[DomainConfig]) -> list[Fault]:
    """The faults of all domains; where each is right by itself, of their standing together."""
    together: list[Fault] = []
    if all(readable(domain) for domain in domains):
        together = _faults([("domains", partial(load_domains, domains))])
        if not together:
            return []
    alone = [(f"domains.{index}", partial(load_domain, domain)) for index, domain in enumerate(domains) if readable(domain)]
    return _faults(alone) or together


def _faults(checks: Iterable[tuple[str, Callable[[], object]]]) -> list[Fault]:
    faults = []
    for section, check in checks:
        try:
            check()
        except UserError as error:
            faults.append(Fault(_absolute(section, error.field), error.message, error.advice))
    return faults


def readable(domain: DomainConfig) -> bool:
    """Whether the domain's sources can be read in this process."""
    sources = [split_slice(source)[0] for source in (domain.train, domain.validation, domain.test)]
    parquet = find_spec("pyarrow") is not None
    return not any(source.startswith("hub:") or (source.endswith(".parquet") and not parquet) for source in sources)


def _absolute(section: str, field: str | None) -> str:
    """The path of a fault that a check of `section` found, whether it named it from the top, from the section or not at all."""
    if not field:
        return section
    return field if field.split(".")[0] in ExperimentConfig.model_fields else f"{section}.{field}"


def create(session: Session, config: ExperimentConfig, *, preset: str | None = None) -> int:
    """Store an experiment that `check_experiment` has passed; its id."""
    experiment = ExperimentRow(name=config.name, preset=preset, config=config.model_dump(mode="json"))
    session.add(experiment)
    session.flush()
    _remember(session, config)
    assert experiment.id is not None
    return experiment.id


def _remember(session: Session, config: ExperimentConfig) -> None:
    """Keep the students and domains that the experiment names in the library."""
    for student in config.students:
        row = StudentRow(name=student.name, model=student.model, native_domain=student.native_domain)
        session.exec(insert_into(session, StudentRow).values(row.model_dump(exclude={"id"})).on_conflict_do_nothing())
    for domain in config.domains:
        kept = DomainRow(
            name=domain.name, train=domain.train, validation=domain.validation, test=domain.test, verifier=domain.verifier.kind
        )
        session.exec(insert_into(session, DomainRow).values(kept.model_dump(exclude={"id"})).on_conflict_do_nothing())


def _help(path: str) -> str:
    """The description of the configuration entry at `path`, or what the section has instead, as advice."""
    model: type[BaseModel] | None = ExperimentConfig
    text = ""
    for part in path.split("."):
        if part.isdigit() or model is None:
            continue
        if part not in model.model_fields:
            return f"Settings here are {', '.join(model.model_fields)}." if path else text
        text = model.model_fields[part].description or text
        model = _section(model.model_fields[part].annotation)
    return text


def _section(annotation: Any) -> type[BaseModel] | None:
    """The settings class within an annotation such as ``list[StudentConfig]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)
