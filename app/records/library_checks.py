"""What is in the files that domains of the library name, looked at when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from app import shapes
from app.domains.uploads import config_of
from app.experiments.experiments import readable
from app.experiments.remembered import experiments
from app.guards import roots
from app.records import queries
from app.tables import DomainRow, ExperimentRow, RunRow
from opcod.config import DomainConfig
from opcod.tasks.inspection import inspect_domain

NEWEST_EXPERIMENTS = 500
"""Among so many the settings of a domain are looked for."""
LONGEST_SAMPLE = 2_000


def check_domain(session: Session, domain_id: int) -> shapes.DomainCheck:
    """Read the domain's three sources and say what is in them.

    Raises:
        NotFound
    """
    row = queries.domain_row(session, domain_id)
    domain = shapes.DomainShape.model_validate(row)
    queries.name_uploads(session, [domain])
    config = domain_config(session, row)
    if not readable(config) or not all(roots.may_read(source) for source in (row.train, row.validation, row.test)):
        return shapes.DomainCheck(domain=domain, readable_here=False, usable=None, splits=[], findings=[], sample=[])
    found = inspect_domain(config)
    return shapes.DomainCheck(
        domain=domain,
        readable_here=True,
        usable=found.usable,
        splits=[shapes.SplitShape.model_validate(split) for split in found.splits],
        findings=[shapes.DataFinding.model_validate(finding) for finding in found.findings],
        sample=[
            shapes.DomainQuestion(id=question.id, prompt=question.prompt[:LONGEST_SAMPLE], answer=question.answer)
            for question in found.sample
        ],
    )


def runs_of_domain(session: Session, row: DomainRow, limit: int = 20) -> list[shapes.Run]:
    """The newest runs whose experiments name this domain with these sources."""
    made_from = [number for number, _ in _naming(session, row)]
    rows = select(RunRow).where(col(RunRow.experiment_id).in_(made_from), col(RunRow.deleted_at).is_(None))
    found = session.exec(rows.order_by(col(RunRow.id).desc()).limit(limit)).all()
    by_id = {run.id: run for run in queries.run_summaries(session, [run.id for run in found if run.id is not None])}
    return [by_id[run.id] for run in found if run.id in by_id]


def domain_config(session: Session, row: DomainRow) -> DomainConfig:
    """The domain as it was saved, or as the newest experiment has it: its row keeps neither columns nor system prompt."""
    assert row.id is not None
    saved = config_of(session, row.id)
    if saved is not None:
        return saved
    named = _naming(session, row)
    data = named[0][1] if named else {}
    return DomainConfig.model_validate(
        {"verifier": {"kind": row.verifier}} | data | {"name": row.name, "train": row.train, "validation": row.validation, "test": row.test}
    )


def _naming(session: Session, row: DomainRow) -> Sequence[tuple[int, dict[str, Any]]]:
    """Newest experiments that name the domain, with the settings that they have for it."""
    newest = session.exec(select(col(ExperimentRow.id)).order_by(col(ExperimentRow.id).desc()).limit(NEWEST_EXPERIMENTS)).all()
    known = experiments(session, [number for number in newest if number is not None])
    wanted = (row.name, row.train, row.validation, row.test)
    return [
        (number, domain)
        for number in sorted(known, reverse=True)
        for domain in known[number].config["domains"]
        if tuple(domain[key] for key in ("name", "train", "validation", "test")) == wanted
    ]
