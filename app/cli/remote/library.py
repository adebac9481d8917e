"""What the service knows besides runs: the queue, workers, students, domains."""

from __future__ import annotations

import typer

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, Token, Url, show_items


def queue(url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List runs that wait, the next one first."""
    columns: Columns = {
        "place": lambda run: run.queue_position,
        "id": lambda run: run.id,
        "name": lambda run: run.name,
        "owner": lambda run: run.owner,
        "priority": lambda run: run.priority,
        "waits for": lambda run: run.waiting_for or "its turn",
    }
    with Client(url, token=token) as client:
        show_items(client.queue(), columns, as_json)


def workers(url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List workers that live."""
    columns: Columns = {
        "name": lambda worker: worker.name,
        "device": lambda worker: worker.device,
        "run": lambda worker: worker.run_id or "",
        "seen": lambda worker: f"{worker.seen_at:%H:%M:%S}",
    }
    with Client(url, token=token) as client:
        show_items(client.workers(), columns, as_json)


def list_students(context: typer.Context, limit: Limit = 50, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List students that experiments named or runs made; or make and bring some."""
    if context.invoked_subcommand is not None:
        return
    columns: Columns = {
        "id": lambda student: student.id,
        "name": lambda student: student.name,
        "model": lambda student: student.model,
        "native domain": lambda student: student.native_domain,
        "from": lambda student: f"run {student.run_id}" if student.run_id else student.origin,
    }
    with Client(url, token=token) as client:
        show_items(client.students(limit=limit), columns, as_json)


def domains(limit: Limit = 50, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List domains that experiments named."""
    columns: Columns = {
        "id": lambda domain: domain.id,
        "name": lambda domain: domain.name,
        "train": lambda domain: domain.train,
        "validation": lambda domain: domain.validation,
        "test": lambda domain: domain.test,
        "verifier": lambda domain: domain.verifier,
    }
    with Client(url, token=token) as client:
        show_items(client.domains(limit=limit), columns, as_json)
