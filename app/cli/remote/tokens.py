"""`opcod tokens`: one's own API tokens, and who one is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.access.person import Scope
from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, Token, Url, as_line, show_items

verbs = typer.Typer(invoke_without_command=True, help="List your API tokens; or make and revoke some.")


@verbs.callback()
def list_tokens(context: typer.Context, limit: Limit = 50, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List your API tokens; or make and revoke some."""
    if context.invoked_subcommand is not None:
        return
    columns: Columns = {
        "id": lambda one: one.id,
        "name": lambda one: one.name,
        "begins": lambda one: one.prefix,
        "scope": lambda one: one.scope,
        "last use": lambda one: f"{one.used_at:%Y-%m-%d}" if one.used_at else "never",
        "ends": lambda one: "revoked" if one.revoked_at else f"{one.expires_at:%Y-%m-%d}" if one.expires_at else "never",
    }
    with Client(url, token=token) as client:
        show_items(client.tokens(limit=limit), columns, as_json)


@verbs.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[Scope, typer.Option(help="How far it goes.")] = "read",
    days: Annotated[float | None, typer.Option(min=0.01, help="It ends after so many days; without it, when it is revoked.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print its text, this once."""
    ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with Client(url, token=token) as client:
        made = client.create_token(name, scope=scope, expires_at=ends)
        print(as_line(made) if as_json else made.token)


@verbs.command()
def revoke(
    number: Annotated[int, typer.Argument(metavar="TOKEN", min=1, help="The token's number.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token: from now on it lets nobody in."""
    with Client(url, token=token) as client:
        client.revoke_token(number)
    print(as_line({"revoked": number}) if as_json else f"token {number} is revoked")


def me(url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Say who you are to the service."""
    with Client(url, token=token) as client:
        found = client.me()
    print(as_line(found) if as_json else f"{found.name}, {found.role}, by {found.means}")
