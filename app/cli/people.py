"""The command line's verbs for people. They need the database and no password: for whoever runs the service, and is locked out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import Session

from app.cli.operate import Home
from app.cli.remote.output import AsJson
from app.settings import Settings
from opcod.errors import ResourceError, UserError

people = typer.Typer(no_args_is_help=True, help="Who may sign in: works on the database itself, for whoever is locked out.")
Name = Annotated[str, typer.Argument(help="The person's name.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, member or admin.")]


@people.command("list")
def list_people(home: Home = None, as_json: AsJson = False) -> None:
    """Everybody who may sign in, or might again."""
    from app.access import people as found
    from app.access.shapes import PersonShape

    with _session(home) as (_, session):
        rows = sorted(found.listed(session, limit=100_000), key=lambda row: row.name_key)
        for row in rows:
            if as_json:
                print(PersonShape.model_validate(row).model_dump_json())
            else:
                print(f"{row.name:<24} {row.role:<8}{'disabled' if row.disabled_at else ''}".rstrip())
        if not rows and not as_json:
            print("Nobody yet: `opcod people invite --role admin` makes a link for the first.")


@people.command()
def invite(role: RoleName = "member", home: Home = None, as_json: AsJson = False) -> None:
    """Print a link at which somebody chooses a name and a password, once."""
    from app.access import links

    with _session(home) as (settings, session):
        row, path = links.make(session, "invite", _role(role), by=_ACTOR)
        _written(session, "person.invite", f"invitation {row.id}, {role}")
        _show_link(settings, path, role, links.VALID_HOURS["invite"], as_json)


@people.command()
def reset(name: Name, home: Home = None, as_json: AsJson = False) -> None:
    """Print a link at which somebody who forgot their password sets another, once."""
    from app.access import links
    from app.access import people as found

    with _session(home) as (settings, session):
        person = found.get(session, name)
        _, path = links.make(session, "reset", _role(person.role), by=_ACTOR, person_id=person.id)
        _written(session, "person.reset", f"person {person.name}")
        _show_link(settings, path, person.role, links.VALID_HOURS["reset"], as_json)


@people.command()
def role(name: Name, role: Annotated[str, typer.Argument(help="viewer, member or admin.")], home: Home = None) -> None:
    """Give somebody another role."""
    _change(home, name, role=_role(role))


@people.command()
def disable(name: Name, home: Home = None) -> None:
    """Let somebody in no longer; they are signed out at once, and their tokens sleep."""
    _change(home, name, disabled=True)


@people.command()
def enable(name: Name, home: Home = None) -> None:
    """Let somebody in again."""
    _change(home, name, disabled=False)


_ACTOR = "command line"


def _change(home: Path | None, name: str, **wanted: Any) -> None:
    from app.access import people as found

    with _session(home) as (_, session):
        described = found.described(found.change(session, name, **wanted))
        _written(session, "person.change", described)
        print(described)


@contextmanager
def _session(home: Path | None) -> Iterator[tuple[Settings, Session]]:
    """The settings, and a session that writes. What the database refuses is said as the user's to mend."""
    from sqlalchemy.exc import SQLAlchemyError

    from app.db import make_engine, migrate, writing
    from app.errors import Invalid, NotFound, Refused

    settings = Settings() if home is None else Settings(home=home)
    if settings.database_url.startswith("sqlite:///") and not Path(settings.database_url.removeprefix("sqlite:///")).exists():
        raise ResourceError(f"There is no studio in {settings.home}.", advice="Name its folder with --home, as given to `opcod up`.")
    engine = make_engine(settings.database_url)
    try:
        migrate(engine)
        with writing(engine) as session:
            yield settings, session
    except (NotFound, Refused, Invalid) as error:
        raise UserError(str(error), advice=getattr(error, "advice", "")) from None
    except SQLAlchemyError as error:
        raise ResourceError(f"The database cannot be used: {getattr(error, 'orig', error)}.", advice="Mend OPCOD_DATABASE_URL.") from None
    finally:
        engine.dispose()


def _role(text: str) -> Any:
    from app.access.person import ROLES

    if text not in ROLES:
        raise UserError(f"There is no role {text!r}.", advice=f"Choose one of {', '.join(ROLES)}.")
    return text


def _written(session: Session, action: str, thing: str) -> None:
    from app.access import audit

    audit.record(session, "", _ACTOR, action, thing, "", "ok")


def _show_link(settings: Settings, path: str, role: str, hours: int, as_json: bool) -> None:
    url = _address(settings) + path
    print(json.dumps({"url": url, "role": role, "valid_hours": hours}) if as_json else f"{url}\n(works once, within {hours} hours)")


def _address(settings: Settings) -> str:
    """Where people find the studio: as configured, as the running `opcod up` noted, or as it would be by default."""
    from app.processes.listening import address_url

    if settings.public_url:
        return settings.public_url
    try:
        return str(json.loads((settings.home / "up.lock").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return address_url("127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host, settings.port)
