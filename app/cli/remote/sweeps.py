"""`opcod sweep`: launch, list, show, wait for and stop sweeps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, Token, Url, as_line, percent, show_items
from app.cli.remote.runs import WORDS, Sets, overrides, read_yaml
from app.client import ServiceError
from app.shapes import Run, SweepDetail, SweepPoint
from opcod.config import parse_yaml
from opcod.plain_text import harmless

verbs = typer.Typer(no_args_is_help=True, help="Run the same experiment with settings that differ.")

SweepNumber = Annotated[int, typer.Argument(metavar="SWEEP", min=1, help="The sweep's number.")]


@verbs.command()
def launch(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    preset: Annotated[str | None, typer.Option(help="The preset that all points are made from.")] = None,
    file: Annotated[Path | None, typer.Option(help="Experiment file (YAML), or what differs from the preset.")] = None,
    changes: Sets = None,
    vary: Annotated[
        list[str] | None, typer.Option(metavar="PATH=[VALUES]", help="Settings and their values; repeat it for a grid.")
    ] = None,
    points: Annotated[Path | None, typer.Option(help="YAML file with a list of settings under `overrides`, one entry a point.")] = None,
    ablation: Annotated[str | None, typer.Option(help="A built-in sweep; `opcod sweep ablations` lists them.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate only, start nothing.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Launch a sweep, every point a run in the queue."""
    sweep: dict[str, Any] = {"name": name, "preset": preset, "config": overrides(changes, file) or None, "ablation": ablation}
    sweep["grid"] = dict(_axis(text) for text in vary) if vary else None
    sweep["overrides"] = read_yaml(points).get("overrides") if points is not None else None
    sweep = {key: value for key, value in sweep.items() if value is not None}
    with Client(url, token=token) as client:
        if check:
            checked = client.check_sweep(sweep)
            if as_json:
                print(as_line(checked))
            for point in () if as_json else checked.points:
                print(harmless(point.name))
            return
        made = client.launch_sweep(sweep)
        print(as_line(made) if as_json else f"sweep {made.id} has {made.progress.points} points: {client.url}/sweeps/{made.id}")


@verbs.command(name="list")
def list_sweeps(limit: Limit = 50, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List sweeps, newest first."""
    columns: Columns = {
        "id": lambda sweep: sweep.id,
        "name": lambda sweep: sweep.name,
        "varies": lambda sweep: ", ".join(sweep.axes),
        "done": lambda sweep: f"{sweep.progress.completed} of {sweep.progress.points}",
        "failed": lambda sweep: sweep.progress.failed or "",
        "owner": lambda sweep: sweep.owner,
    }
    with Client(url, token=token) as client:
        show_items(client.sweeps(limit=limit), columns, as_json)


@verbs.command()
def show(sweep: SweepNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Print a sweep's values against scores and verdicts."""
    with Client(url, token=token) as client:
        _show(client.sweep(sweep), as_json)


@verbs.command()
def table(sweep: SweepNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Print a sweep as CSV, one line for each point, student and domain; with --json, the sweep itself."""
    with Client(url, token=token) as client:
        print(as_line(client.sweep(sweep)) if as_json else harmless(client.sweep_table(sweep), keep="\n"), end="\n" if as_json else "")


@verbs.command()
def wait(
    sweep: SweepNumber,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds, with status 2.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Wait until no run of the sweep waits or is with a worker, then show it; status 1 where not all completed."""
    with Client(url, token=token) as client:
        try:
            ended = client.wait_for_sweep(sweep, timeout=timeout)
        except TimeoutError as error:
            raise ServiceError(str(error), advice="It goes on; wait again, or look with `opcod sweep show`.") from None
        _show(ended, as_json)
    if ended.progress.completed != ended.progress.points:
        raise typer.Exit(1)


@verbs.command()
def stop(sweep: SweepNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Stop every run of a sweep that has not ended."""
    with Client(url, token=token) as client:
        _show(client.stop_sweep(sweep), as_json)


@verbs.command()
def ablations(url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """List the paper's sweeps."""
    columns: Columns = {
        "name": lambda one: one.name,
        "title": lambda one: one.title,
        "compares": lambda one: one.description,
        "source": lambda one: one.source,
    }
    with Client(url, token=token) as client:
        show_items(client.ablations(), columns, as_json)


def _show(sweep: SweepDetail, as_json: bool) -> None:
    if as_json:
        print(as_line(sweep))
        return
    columns: Columns = {
        "point": lambda point: point.place + 1,
        **{axis.rpartition(".")[2]: partial(_value, axis) for axis in sweep.axes},
        "run": lambda point: point.run.id if point.run else "deleted",
        "status": lambda point: point.run.status if point.run else "",
        "scores": lambda point: _scores(point.run),
        "mean change": lambda point: _change(point.run),
        "mutual improvement": lambda point: WORDS[point.run.verdict.mutual_improvement if point.run else None],
    }
    show_items(sweep.points, columns, as_json=False)


def _value(axis: str, point: SweepPoint) -> object:
    return point.values.get(axis)


def _scores(run: Run | None) -> str:
    if run is None:
        return ""
    parts = []
    for student in run.students:
        scores = " ".join(f"{domain} {percent(student.scores.latest.get(domain)) or '-'}" for domain in run.domains)
        parts.append(f"{student.name}: {scores}")
    return "; ".join(parts)


def _change(run: Run | None) -> str:
    """Mean over students and domains of what changed since the start, on one split."""
    changes = []
    for student in run.students if run else ():
        scores = student.scores
        before, after = (scores.initial, scores.final) if scores.final else (scores.validation.initial, scores.validation.latest)
        changes += [after[domain] - before[domain] for domain in after if domain in before]
    return f"{100 * fmean(changes):+.1f}" if changes else ""


def _axis(text: str) -> tuple[str, list[Any]]:
    """``method.gate.threshold=[0.1,0.2]`` as path and values.

    Raises:
        ServiceError: it is not of that form.
    """
    path, equals, values = text.partition("=")
    found = parse_yaml(f"value: {values}")["value"] if equals else None
    if not isinstance(found, list):
        raise ServiceError(f"{text!r} varies nothing.", advice="Write for example 'method.gate.threshold=[0.1, 0.2, 0.4]'.")
    return path, found
