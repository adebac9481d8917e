"""The command line's verbs that speak to a server over REST: launch, runs, stop, resume, logs, metrics, exchanges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.client import Client, ServiceError
from opcod.config import parse_yaml

Url = Annotated[str, typer.Option("--url", envvar="OPCOD_URL", help="Address of the server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Limit = Annotated[int, typer.Option(min=1, help="Most items.")]
RunNumber = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's number.")]
Columns = Mapping[str, Callable[[dict[str, Any]], object]]

DEFAULT_URL = "http://127.0.0.1:8000"
ENDED = ("completed", "stopped", "failed")
FOLLOW_SECONDS = 1.0
_CELL = 400


def add_to(cli: typer.Typer) -> None:
    """Give `cli` these verbs."""
    for verb in (launch, runs, stop, resume, logs, metrics, exchanges):
        cli.command()(verb)


def launch(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="A preset; a file then holds what differs from it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Create an experiment and start a run of it."""
    if file is None and preset is None:
        raise ServiceError("Nothing to launch was named.", advice="Name an experiment file, or --preset NAME.")
    experiment: dict[str, Any] = {key: value for key, value in (("preset", preset), ("name", name)) if value is not None}
    if file is not None:
        try:
            experiment["config"] = parse_yaml(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.", advice="Name a YAML file.") from None
    with Client(url) as client:
        _show_run(client, client.launch(experiment).model_dump(mode="json"), as_json)


def runs(
    status: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    columns: Columns = {
        "id": lambda run: run["id"],
        "name": lambda run: run["name"],
        "status": lambda run: run["status"],
        "done": lambda run: f"{run['progress']['fraction'] or 0:.0%}",
        "mutual improvement": lambda run: {True: "yes", False: "no", None: "not yet"}[run["verdict"]["mutual_improvement"]],
        "error": lambda run: (run["error"] or {}).get("message", ""),
    }
    with Client(url) as client:
        _show(client.pages("/runs", {"status": status}, limit=limit), columns, as_json)


def stop(run: RunNumber, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Stop a run at its next checkpoint."""
    with Client(url) as client:
        _show_run(client, client.request("POST", f"/runs/{run}:stop"), as_json)


def resume(run: RunNumber, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Go on with a stopped or failed run from its last checkpoint."""
    with Client(url) as client:
        _show_run(client, client.request("POST", f"/runs/{run}:resume"), as_json)


def logs(
    run: RunNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    after: Annotated[int | None, typer.Option(min=0, help="Byte to begin at; without it, the log's last part.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print a run's log."""
    with Client(url) as client:
        while True:
            ended = not follow or client.request("GET", f"/runs/{run}")["status"] in ENDED
            part = client.request("GET", f"/runs/{run}/logs", params={} if after is None else {"after": after})
            after = int(part["next_cursor"])
            if part["text"]:
                print(json.dumps(part) if as_json else _harmless(part["text"], keep="\n\t"), end="\n" if as_json else "", flush=True)
            elif ended:
                return
            else:
                time.sleep(FOLLOW_SECONDS)
            if not follow and after >= part["size"]:
                return


def metrics(
    run: RunNumber,
    name: Annotated[
        str | None, typer.Option(help="Only this metric, such as student1/train/loss; student1/* for all that begin so.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Cursor of an earlier answer.")] = None,
    limit: Limit = 1000,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print a run's metrics in order of arrival."""
    columns: Columns = {key: itemgetter(key) for key in ("round", "step", "name", "value")}
    with Client(url) as client:
        _show(client.pages(f"/runs/{run}/metrics", {"name": name, "cursor": after}, limit=limit), columns, as_json)


def exchanges(
    run: RunNumber,
    outcome: Annotated[str | None, typer.Option(help="Only exchanges whose feedback ended so: kept, no_match, ...")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    step: Annotated[int | None, typer.Option(help="Only this update of the tutee.")] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print what the students said to each other."""
    columns: Columns = {
        "id": lambda item: item["id"],
        "step": lambda item: item["step"],
        "tutee": lambda item: item["tutee"],
        "question": lambda item: item["question"]["prompt"],
        "response": lambda item: item["rollout"]["text"],
        "correct": lambda item: "yes" if item["rollout"]["correct"] else "no",
        "feedback": lambda item: (item["feedback"] or {}).get("text", ""),
        "outcome": lambda item: (item["feedback"] or {}).get("outcome", ""),
    }
    with Client(url) as client:
        filters = {"outcome": outcome, "domain": domain, "step": step}
        _show(client.pages(f"/runs/{run}/exchanges", filters, limit=limit), columns, as_json)


def _show_run(client: Client, run: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(run) if as_json else f"run {run['id']} is {run['status']}: {client.url}/runs/{run['id']}")


def _show(items: Iterable[dict[str, Any]], columns: Columns, as_json: bool) -> None:
    if as_json:
        for item in items:
            print(json.dumps(item))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for item in items:
        table.add_row(*(_cell(value(item)) for value in columns.values()))
    Console().print(table)


def _cell(value: object) -> Text:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return Text(_harmless(text[:_CELL]))


def _harmless(text: str, keep: str = "") -> str:
    """A model's text for a terminal: no control character of its making takes effect."""
    return "".join(character if character.isprintable() or character in keep else " " for character in text)
