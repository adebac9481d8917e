"""The command line's verbs for whoever runs the service: backup, restore, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings
from opcod.errors import ResourceError

Home = Annotated[Path | None, typer.Option(help="The studio's folder, as given to `opcod up` [OPCOD_HOME].")]


def add_to(cli: typer.Typer) -> None:
    """Register the verbs."""
    for verb in (backup, restore):
        cli.command()(verb)


def backup(
    file: Annotated[Path, typer.Argument(help="Where to; replaced if it is there.")],
    home: Home = None,
    with_artefacts: Annotated[bool, typer.Option("--with-artefacts", help="The runs' checkpoints, exports and logs too.")] = False,
) -> None:
    """Save the database to one file, while the service goes on. It restores into SQLite and PostgreSQL alike."""
    from app import backups
    from app.db import make_engine

    settings = _settings(home)
    engine = make_engine(settings.database_url)
    try:
        made = backups.backup(engine, file, artefacts=settings.runs_folder if with_artefacts else None)
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

    settings = _settings(home)
    engine = make_engine(settings.database_url)
    try:
        held = backups.restore(engine, file, replace=replace, artefacts=settings.runs_folder)
    except OSError as error:
        raise ResourceError(
            f"{error.filename or settings.home} cannot be written: {error.strerror}.", advice="Nothing was changed."
        ) from None
    finally:
        engine.dispose()
    print(f"restored {held.rows} rows of {len(held.tables)} tables and {held.artefacts} files, as of {held.made_at:%Y-%m-%d %H:%M:%S} UTC")


def _settings(home: Path | None) -> Settings:
    return Settings() if home is None else Settings(home=home)


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
