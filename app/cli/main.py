"""The command line, `opcod`. It never imports torch: what trains is another process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.cli import operate, people, remote
from opcod.errors import UserError
from opcod.plain_text import harmless

cli = typer.Typer(
    name="opcod",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train language models that tutor each other.",
)
students = typer.Typer(invoke_without_command=True, callback=remote.library.list_students)
remote.students.add_to(students)
cli.add_typer(students, name="students")
remote.add_to(cli)
operate.add_to(cli)
cli.add_typer(people.people, name="people")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main() -> NoReturn:
    """Run the command line. A fault of the user's ends with status 2 and no stack trace."""
    try:
        cli()
    except UserError as error:
        print(f"opcod: {harmless(error.message, keep=chr(10))}", file=sys.stderr)
        if error.advice:
            print(f"       {harmless(error.advice, keep=chr(10))}", file=sys.stderr)
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
    from app.processes.embedded import up as run
    from opcod.config import load_preset

    if demo is not None:
        load_preset(demo)  # a wrong name is said before anything starts
    raise typer.Exit(run(home, host, port, workers, demo))


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [OPCOD_HOST].")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on [OPCOD_PORT].")] = None,
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="Server processes that share the address [OPCOD_PROCESSES].")] = None,
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the web server alone. Settings come from the environment (OPCOD_DATABASE_URL, OPCOD_BROKER_URL, ...)."""
    from app.processes.lifeline import die_with_parent
    from app.processes.serving import serve as run
    from app.settings import get_settings

    die_with_parent(signal.SIGTERM)
    settings = get_settings()
    listener = socket.socket(fileno=listen_fd) if listen_fd is not None else None
    run(host or settings.host, settings.port if port is None else port, listener, processes or settings.processes)


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


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as `python -m MODULE`, in this very process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
