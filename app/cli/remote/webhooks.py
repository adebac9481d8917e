"""Whom the service tells of what happens."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, Token, Url, as_line, show_items
from app.webhooks.events import EVENTS, WebhookEvent

verbs = typer.Typer(invoke_without_command=True, help="Tell addresses of yours what happens.")
COLUMNS: Columns = {
    "id": lambda hook: hook.id,
    "address": lambda hook: hook.url,
    "events": lambda hook: ", ".join(hook.events),
    "state": lambda hook: "off" if hook.disabled_at else "failing" if hook.failing_since else "on",
}
Number = Annotated[int, typer.Argument(min=1, help="The webhook's number.")]


@verbs.callback()
def list_webhooks(context: typer.Context, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List your webhooks; or make, test and delete some."""
    if context.invoked_subcommand is not None:
        return
    with Client(url, token=token) as client:
        show_items(client.webhooks(), COLUMNS, as_json)


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
def tries(
    webhook: Number,
    delivery: Annotated[int, typer.Argument(min=1, help="The delivery's number.")],
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List the requests that were made for a delivery, newest first."""
    columns: Columns = {
        "at": lambda item: f"{item.at:%Y-%m-%d %H:%M:%S}",
        "status": lambda item: item.status or "none",
        "seconds": lambda item: f"{item.seconds:.2f}",
        "answer": lambda item: item.answer,
    }
    with Client(url, token=token) as client:
        show_items(client.tries(webhook, delivery, limit=limit), columns, as_json)


@verbs.command()
def redeliver(
    webhook: Number,
    delivery: Annotated[int, typer.Argument(min=1, help="The delivery's number.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send a delivery again, under the same id."""
    with Client(url, token=token) as client:
        show_items([client.redeliver(webhook, delivery)], {"delivery": lambda item: item.id, "event": lambda item: item.event}, as_json)


@verbs.command()
def change(
    webhook: Number,
    address: Annotated[str | None, typer.Option(help="Another address.")] = None,
    event: Annotated[list[str] | None, typer.Option(help="What it is told of, all of it; repeat it for more.")] = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Tell it again, or nothing for now.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Give a webhook another address or other events, turn it off or on."""
    changes = {key: value for key, value in (("url", address), ("events", event), ("enabled", on)) if value is not None}
    with Client(url, token=token) as client:
        show_items([client.change_webhook(webhook, **changes)], COLUMNS, as_json)


@verbs.command()
def delete(webhook: Number, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Delete a webhook with its deliveries."""
    with Client(url, token=token) as client:
        client.delete_webhook(webhook)
    print(as_line({"deleted": webhook}) if as_json else f"webhook {webhook} is deleted")
