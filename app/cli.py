"""The command line, `opcod`. It never imports torch: what trains is another process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from opcod.errors import UserError

cli = typer.Typer(
    name="opcod",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train language models that tutor each other.",
)
students = typer.Typer(no_args_is_help=True, help="Make and bring students.")
cli.add_typer(students, name="students")

Url = Annotated[str, typer.Option("--url", envvar="OPCOD_URL", help="Address of the server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Limit = Annotated[int, typer.Option(min=1, help="Most items.")]
DEFAULT_URL = "http://127.0.0.1:8000"
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main() -> NoReturn:
    """Run the command line. A fault of the user's ends with status 2 and no stack trace."""
    try:
        cli()
    except UserError as error:
        print(f"opcod: {error.message}", file=sys.stderr)
        if error.advice:
            print(f"       {error.advice}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


@cli.command()
def up(
    home: Annotated[Path, typer.Option(help="Folder that holds everything.")] = Path("./opcod-home"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers; each trains one run at a time.")] = 1,
    demo: Annotated[str | None, typer.Option("--demo", metavar="PRESET", help="Launch this preset once the server answers.")] = None,
) -> None:
    """Start everything on this machine: server, worker, broker and SQLite in one folder."""
    from app.embedded import up as run
    from opcod.config import load_preset

    if demo is not None:
        load_preset(demo)  # a wrong name is said before anything starts
    raise typer.Exit(run(home, host, port, workers, demo))


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [OPCOD_HOST].")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on [OPCOD_PORT].")] = None,
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the web server alone. Settings come from the environment (OPCOD_DATABASE_URL, OPCOD_BROKER_URL, ...)."""
    from app.lifeline import die_with_parent
    from app.serving import serve as run
    from app.settings import get_settings

    die_with_parent(signal.SIGTERM)
    settings = get_settings()
    listener = socket.socket(fileno=listen_fd) if listen_fd is not None else None
    run(host or settings.host, settings.port if port is None else port, listener)


@cli.command(context_settings=PASS_ON)
def worker(context: typer.Context) -> None:
    """Start a worker: it takes queued runs and trains them, one at a time."""
    _become("worker", context.args)


@cli.command(context_settings=PASS_ON)
def train(context: typer.Context) -> None:
    """Train an experiment file in this process, with neither server nor database."""
    _become("opcod", ["train", *context.args])


@students.command("import-gguf", context_settings=PASS_ON)
def import_gguf(context: typer.Context) -> None:
    """Turn a GGUF file into an ordinary model folder."""
    _become("opcod", ["students", "import-gguf", *context.args])


@cli.command()
def launch(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="A preset; a file then holds what differs from it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Create an experiment and start a run of it."""
    from app.client import Client, ServiceError
    from opcod.config import parse_yaml

    if file is None and preset is None:
        raise ServiceError("Nothing to launch was named.", advice="Name an experiment file, or --preset NAME.")
    experiment: dict[str, Any] = {"preset": preset} if preset else {}
    if file is not None:
        try:
            experiment["config"] = parse_yaml(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.", advice="Name a YAML file.") from None
    experiment["name"] = name or experiment.get("config", {}).get("name") or preset or "experiment"
    with Client(url) as client:
        run = client.launch(experiment)
    print(json.dumps(run) if as_json else f"run {run['id']} is {run['status']}: {client.url}/runs/{run['id']}")


@cli.command()
def runs(
    status: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    columns = {
        "id": lambda run: run["id"],
        "name": lambda run: run["name"],
        "status": lambda run: run["status"],
        "done": lambda run: f"{run['progress']['fraction']:.0%}",
        "mutual improvement": lambda run: {True: "yes", False: "no", None: "not yet"}[run["verdict"]["mutual_improvement"]],
        "error": lambda run: (run["error"] or {}).get("message", ""),
    }
    _show_list(url, "/runs", {"status": status}, limit, as_json, columns)


@cli.command()
def metrics(
    run: int,
    name: Annotated[str | None, typer.Option(help="Only this metric, such as student1/train/loss.")] = None,
    after: Annotated[str | None, typer.Option(help="Cursor of an earlier answer.")] = None,
    limit: Limit = 1000,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print a run's metrics in order of arrival."""
    columns = {key: (lambda point, key=key: point[key]) for key in ("round", "step", "name", "value")}
    _show_list(url, f"/runs/{run}/metrics", {"name": name, "after": after}, limit, as_json, columns)


@cli.command()
def exchanges(
    run: int,
    outcome: Annotated[str | None, typer.Option(help="Only exchanges whose feedback ended so: kept, no_match, ...")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print what the students said to each other."""
    columns = {
        "id": lambda item: item["id"],
        "step": lambda item: item["step"],
        "tutee": lambda item: item["tutee"],
        "question": lambda item: item["question"]["prompt"],
        "response": lambda item: item["rollout"]["text"],
        "correct": lambda item: "yes" if item["rollout"]["correct"] else "no",
        "feedback": lambda item: (item["feedback"] or {}).get("text", ""),
        "outcome": lambda item: (item["feedback"] or {}).get("outcome", ""),
    }
    _show_list(url, f"/runs/{run}/exchanges", {"outcome": outcome, "domain": domain}, limit, as_json, columns)


def _show_list(url: str, path: str, parameters: dict[str, Any], limit: int, as_json: bool, columns: dict[str, Any]) -> None:
    from app.client import Client

    with Client(url) as client:
        items = client.pages(path, parameters, limit=limit)
        if as_json:
            for item in items:
                print(json.dumps(item))
            return
        table = Table(*columns, box=None, pad_edge=False)
        for item in items:
            table.add_row(*(_plain(value(item)) for value in columns.values()))
    Console().print(table)


def _plain(value: Any) -> Any:
    """Text for a terminal: one line, and no control character or markup of a model's making takes effect."""
    from rich.text import Text

    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return Text("".join(character if character.isprintable() else " " for character in text[:400]))


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as `python -m MODULE`, in this very process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


if __name__ == "__main__":
    main()
