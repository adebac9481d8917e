"""The command line's verbs for whoever runs the service: backup, restore, settings, health."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from app.processes.listening import address_url
from app.settings import Settings, WorkerSettings, read_settings
from opcod.errors import ResourceError

Home = Annotated[Path | None, typer.Option(help="The studio's folder, as given to `opcod up` [OPCOD_HOME].")]


def add_to(cli: typer.Typer) -> None:
    """Register the verbs."""
    for verb in (backup, restore, settings, health):
        cli.command()(verb)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to; replaced if it is there.")],
    home: Home = None,
    with_artefacts: Annotated[bool, typer.Option("--with-artefacts", help="The runs' checkpoints, exports and logs too.")] = False,
) -> None:
    """Save the database to one file, while the service goes on. It restores into SQLite and PostgreSQL alike."""
    from app import backups
    from app.db import make_engine

    place = _settings(home)
    if with_artefacts and place.store_url:
        advice = "Leave --with-artefacts out; the store's own versions or copies keep its objects."
        raise ResourceError(f"The artefacts are in {place.store_url}, not on this machine.", advice=advice)
    engine = make_engine(place.database_url)
    try:
        made = backups.backup(engine, file, artefacts=place.runs_folder if with_artefacts else None)
    except OSError as error:
        raise ResourceError(
            f"The backup {file} cannot be written: {error.strerror}.", advice="Free some space, or name another place."
        ) from None
    finally:
        engine.dispose()
    print(f"{file}: {_size(file)}, {made.rows} rows of {len(made.tables)} tables, {made.artefacts} files, schema {made.schema_version}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `opcod backup` made.")],
    home: Home = None,
    replace: Annotated[bool, typer.Option("--replace", help="Throw away what the database has.")] = False,
) -> None:
    """Fill an empty database from a backup, all or nothing. Stop the service first."""
    from app import backups
    from app.db import make_engine

    place = _settings(home)
    engine = make_engine(place.database_url)
    try:
        held = backups.restore(engine, file, replace=replace, artefacts=place.runs_folder)
    except OSError as error:
        raise ResourceError(f"{error.filename or place.home} cannot be written: {error.strerror}.", advice="Nothing was changed.") from None
    finally:
        engine.dispose()
    print(f"restored {held.rows} rows of {len(held.tables)} tables and {held.artefacts} files, as of {held.made_at:%Y-%m-%d %H:%M:%S} UTC")


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/operate.md: names, defaults, meanings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: names and present values.")] = False,
) -> None:
    """Show every setting: what it means, its default, and what it is now."""
    from app.cli import settings_table

    if markdown:
        print(settings_table.markdown(), end="")
        return
    now = settings_table.present(read_settings(WorkerSettings))
    if as_json:
        print(json.dumps(now))
        return
    table = Table("setting", "now", "default", "meaning", box=None, pad_edge=False)
    for setting in settings_table.settings_table():
        table.add_row(*map(Text, (setting.variable, now[setting.variable], setting.default, setting.meaning)))
    Console().print(table)


def health(
    worker: Annotated[bool, typer.Option("--worker", help="Of this machine's worker instead of the server.")] = False,
) -> None:
    """Say whether the server on this machine can work, or a worker on it lives; the exit status is 0 or 1."""
    told = _worker_health() if worker else _server_health()
    print("\n".join(told.reasons) or "ready")
    raise typer.Exit(0 if told.ready else 1)


@dataclass(frozen=True, slots=True)
class _Health:
    ready: bool
    reasons: list[str]


def _server_health() -> _Health:
    settings = read_settings(Settings)
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    try:
        answer = httpx.get(f"{address_url(host, settings.port)}/api/v1/health/ready", timeout=4, trust_env=False)
        return _Health(bool(answer.json()["ready"]), list(answer.json()["reasons"]))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return _Health(False, [f"The server does not answer: {error or type(error).__name__}."])


def _worker_health() -> _Health:
    from app.db import make_engine, reading
    from app.lifecycle import workers

    engine = make_engine(read_settings(Settings).database_url)
    try:
        with reading(engine) as session:
            here = [worker for worker in workers.alive(session) if worker.host == socket.gethostname()]
    except SQLAlchemyError as error:
        return _Health(False, [f"The database does not answer: {getattr(error, 'orig', error)}."])
    finally:
        engine.dispose()
    return _Health(bool(here), [] if here else [f"No worker of {socket.gethostname()} has been heard of lately."])


def _settings(home: Path | None) -> Settings:
    return read_settings(Settings) if home is None else read_settings(Settings, home=home)


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
