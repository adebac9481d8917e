"""Whom the service tells of what happens."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from app.cli_remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, Token, Url, show_items
from app.webhooks.events import EVENTS, WebhookEvent

verbs = typer.Typer(invoke_without_command=True, help="Tell addresses of yours what happens.")
Number = Annotated[int, typer.Argument(min=1, help="The webhook's number.")]


@verbs.callback()
def list_webhooks(context: typer.Context, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List your webhooks; or make, test and delete some."""
    if context.invoked_subcommand is not None:
        return
    columns: Columns = {
        "id": lambda hook: hook.id,
        "address": lambda hook: hook.url,
        "events": lambda hook: ", ".join(hook.events),
        "state": lambda hook: "off" if hook.disabled_at else "failing" if hook.failing_since else "on",
    }
    with Client(url, token=token) as client:
        show_items(client.webhooks(), columns, as_json)


@verbs.command()
def create(
    address: Annotated[str, typer.Argument(help="Where deliveries are sent.")],
    event: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(EVENTS)}; repeat it for more. Without it: all.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook and print its secret, this once."""
    columns: Columns = {"id": lambda hook: hook.id, "address": lambda hook: hook.url, "secret": lambda hook: hook.secret}
    with Client(url, token=token) as client:
        made = client.create_webhook(address, cast(list[WebhookEvent], event or list(EVENTS)))
        show_items([made], columns, as_json)


@verbs.command()
def ping(webhook: Number, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Send a test delivery."""
    with Client(url, token=token) as client:
        show_items([client.ping_webhook(webhook)], {"delivery": lambda item: item.id, "event": lambda item: item.event}, as_json)


@verbs.command()
def deliveries(webhook: Number, limit: Limit = 50, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List what a webhook was told, newest first."""
    columns: Columns = {
        "id": lambda item: item.id,
        "event": lambda item: item.event,
        "run": lambda item: item.run_id or "",
        "tries": lambda item: item.tries,
        "delivered": lambda item: "yes" if item.delivered_at else "waits" if item.next_try_at else "given up",
        "last answer": lambda item: f"{item.last_status or ''} {item.last_answer[:60]}".strip(),
    }
    with Client(url, token=token) as client:
        show_items(client.deliveries(webhook, limit=limit), columns, as_json)


@verbs.command()
def delete(webhook: Number, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Delete a webhook with its deliveries."""
    with Client(url, token=token) as client:
        client.delete_webhook(webhook)
