"""How verbs print: a table or a line for people, one JSON object a line for programs; harmless to terminals, bounded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.client import Client
from app.client.asynchronous import DEFAULT_URL
from opcod.plain_text import harmless

Url = Annotated[str, typer.Option("--url", envvar="OPCOD_URL", help="Address of the server.")]
Token = Annotated[str | None, typer.Option("--token", envvar="OPCOD_TOKEN", help="API token, where the server asks for one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Limit = Annotated[int, typer.Option(min=1, help="Most items.")]
RunNumber = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's number.")]
Columns = Mapping[str, Callable[[Any], object]]

CELL = 400
"""Characters of a cell."""

__all__ = ["DEFAULT_URL", "Client"]


def as_line(item: BaseModel | Mapping[str, Any]) -> str:
    """One JSON object, ASCII, so that no terminal is told anything by it."""
    return json.dumps(item.model_dump(mode="json") if isinstance(item, BaseModel) else dict(item))


def show_items(items: Iterable[BaseModel], columns: Columns, as_json: bool) -> None:
    """A list."""
    if as_json:
        for item in items:
            print(as_line(item))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for item in items:
        table.add_row(*(_cell(value(item)) for value in columns.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def show_run(client: Client, run: Any, as_json: bool) -> None:
    """What became of a run."""
    print(as_line(run) if as_json else f"run {run.id} is {run.status}: {client.url}/runs/{run.id}")


def percent(value: float | None) -> str:
    """A fraction as people read it."""
    return "" if value is None else f"{100 * value:.1f} %"


def _cell(value: object) -> Text:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return Text(harmless(text[:CELL]))
