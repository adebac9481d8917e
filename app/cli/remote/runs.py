"""Launch runs and do something with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.remote.output import (
    DEFAULT_URL,
    AsJson,
    Client,
    Columns,
    Limit,
    RunNumber,
    Token,
    Url,
    as_line,
    percent,
    show_items,
    show_run,
)
from app.client import ServiceError
from app.shapes import Achieved, Run
from opcod.config import parse_change, parse_yaml
from opcod.estimation.figures import Estimate
from opcod.estimation.words import lines
from opcod.plain_text import harmless
from opcod.preflight.words import lines as preflight_lines

Sets = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="A setting that differs; repeat it for more.")]


WORDS = {True: "yes", False: "no", None: "not yet"}


def launch(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="A preset; a file then holds what differs from it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate only, start nothing.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Create an experiment and start a run of it."""
    if file is None and preset is None:
        raise ServiceError("Nothing to launch was named.", advice="Name an experiment file, or --preset NAME.")
    experiment: dict[str, Any] = {key: value for key, value in (("preset", preset), ("name", name)) if value is not None}
    if file is not None:
        experiment["config"] = read_yaml(file)
    with Client(url, token=token) as client:
        if check:
            checked = client.check(experiment)
            print(as_line(checked) if as_json else "valid: data, students and templates are in order as far as can be seen from here")
            if not as_json:
                _show_estimate(checked.estimate)
            return
        show_run(client, client.launch(experiment), as_json)


def estimate(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="A preset; a file then holds what differs from it.")] = None,
    run: Annotated[int | None, typer.Option(min=1, help="A run instead: what was expected of it, and what it took.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print what an experiment will take: time, memory, disk and tokens, with how sure that is."""
    with Client(url, token=token) as client:
        if run is not None:
            found = client.run_estimate(run)
            if as_json:
                print(as_line(found))
            elif found.predicted is None:
                print(f"nothing was expected of run {run}: it was launched by an earlier version")
            else:
                _show_estimate(found.predicted, found.achieved)
            return
        if file is None and preset is None:
            raise ServiceError("Nothing to estimate was named.", advice="Name an experiment file, --preset NAME or --run NUMBER.")
        experiment: dict[str, Any] = {"preset": preset} if preset is not None else {}
        if file is not None:
            experiment["config"] = read_yaml(file)
        made = client.estimate(experiment)
        if as_json:
            print(as_line(made))
        else:
            _show_estimate(made)


def preflight(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="A preset; a file then holds what differs from it.")] = None,
    questions: Annotated[int | None, typer.Option(min=1, max=256, help="Training questions a student.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Let a worker look at an experiment before it is launched, and print what it found. Nothing is trained."""
    if file is None and preset is None:
        raise ServiceError("Nothing to look at was named.", advice="Name an experiment file, or --preset NAME.")
    experiment: dict[str, Any] = {"preset": preset} if preset is not None else {}
    if file is not None:
        experiment["config"] = read_yaml(file)
    with Client(url, token=token) as client:
        asked = client.preflight(experiment, size={"questions": questions} if questions is not None else None)
        found = client.wait_for_preflight(asked.id)
    if as_json:
        print(as_line(found))
    elif found.found is not None:
        for line in preflight_lines(found.found):
            print(harmless(line))
    else:
        reason = found.error.message if found.error else f"it was {found.state}"
        raise ServiceError(f"Pre-flight {found.id} found nothing: {reason}", advice=found.error.advice if found.error else "")


def _show_estimate(estimate: Estimate, achieved: Achieved | None = None) -> None:
    for line in lines(estimate, achieved.model_dump() if achieved else None):
        print(harmless(line))


def runs(
    status: Annotated[list[str] | None, typer.Option(help="Only runs in this state; repeat it for more.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only runs with this tag; repeat it for those that have them all.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this person's runs.")] = None,
    search: Annotated[str | None, typer.Option(help="Only runs whose name has this text.")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived runs instead of the others.")] = False,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    filters = {"status": status, "tag": tag, "owner": owner, "search": search, "archived": archived or None}
    with Client(url, token=token) as client:
        show_items(client.runs(limit=limit, **filters), RUN_COLUMNS, as_json)


RUN_COLUMNS: Columns = {
    "id": lambda run: run.id,
    "name": lambda run: run.name,
    "owner": lambda run: run.owner,
    "status": lambda run: run.status,
    "done": lambda run: f"{run.progress.fraction:.0%}",
    "mutual improvement": lambda run: WORDS[run.verdict.mutual_improvement],
    "error": lambda run: run.error.message if run.error else "",
}


def show(run: RunNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Show one run: its state, its students' scores, its verdict."""
    with Client(url, token=token) as client:
        found = client.run(run)
        if as_json:
            print(as_line(found))
            return
        print("\n".join(_lines(client, found)))


def wait(
    run: RunNumber,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds, with status 2.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Wait until a run has ended; status 1 where it did not complete."""
    with Client(url, token=token) as client:
        try:
            ended = client.wait(run, timeout=timeout)
        except TimeoutError as error:
            raise ServiceError(str(error), advice="It goes on; wait again, or look with `opcod show`.") from None
        show_run(client, ended, as_json)
    if ended.status != "completed":
        raise typer.Exit(1)


def pause(run: RunNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Pause a run at its next step; its worker is free for others."""
    with Client(url, token=token) as client:
        show_run(client, client.pause(run), as_json)


def stop(run: RunNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Stop a run at its next step."""
    with Client(url, token=token) as client:
        show_run(client, client.stop(run), as_json)


def resume(run: RunNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Go on with a paused or ended run from its last checkpoint."""
    with Client(url, token=token) as client:
        show_run(client, client.resume(run), as_json)


def retry(
    run: RunNumber,
    afresh: Annotated[bool, typer.Option("--afresh", help="From the start, as a new run; without it, from the last checkpoint.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Do an ended run over."""
    with Client(url, token=token) as client:
        show_run(client, client.retry(run, afresh=afresh), as_json)


def clone(
    run: RunNumber,
    changes: Sets = None,
    file: Annotated[Path | None, typer.Option(help="YAML file with the settings that differ.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run with a run's settings, or with some that differ."""
    config = overrides(changes, file)
    with Client(url, token=token) as client:
        show_run(client, client.clone(run, config=config or None, name=name), as_json)


def move(
    run: RunNumber,
    position: Annotated[int, typer.Argument(min=1, help="Place in the queue; 1 is next.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Put a waiting run at a place in the queue."""
    with Client(url, token=token) as client:
        moved = client.move(run, position)
        print(as_line(moved) if as_json else f"run {moved.id} is number {moved.queue_position} in the queue")


def change(
    run: RunNumber,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Its tags, all of them; repeat it for more.")] = None,
    archive: Annotated[bool | None, typer.Option("--archive/--unarchive", help="Leave it out of lists, or show it again.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher goes first in the queue.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Rename, tag or archive a run, or give it another priority."""
    values = {
        key: value for key, value in (("name", name), ("tags", tag), ("archived", archive), ("priority", priority)) if value is not None
    }
    if not values:
        raise ServiceError("Nothing to change was named.", advice="Give --name, --tag, --archive or --priority.")
    with Client(url, token=token) as client:
        show_run(client, client.change(run, **values), as_json)


def delete(
    run: RunNumber,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Delete an ended run with its exchanges, metrics, checkpoints and log."""
    with Client(url, token=token) as client:
        found = client.run(run)
        if not yes:
            typer.confirm(f"Delete run {run}, {harmless(found.name)!r}, with all that it left behind?", abort=True)
        client.delete(run)
        print(as_line({"deleted": run}) if as_json else f"run {run} is deleted")


def overrides(changes: list[str] | None, file: Path | None) -> dict[str, Any]:
    """Settings of a file, with those of `--set` laid over them."""
    from opcod.config import merge

    config: dict[str, Any] = read_yaml(file) if file is not None else {}
    for text in changes or ():
        config = merge(config, parse_change(text))
    return config


def read_yaml(file: Path) -> Any:
    """Plain data of a YAML file.

    Raises:
        ServiceError: it cannot be read.
        ConfigError: it is no YAML.
    """
    try:
        return parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.", advice="Name a YAML file.") from None


def _lines(client: Client, run: Run) -> list[str]:
    progress = run.progress
    tags = ", ".join(harmless(tag) for tag in run.tags)
    lines = [
        f"run {run.id}  {harmless(run.name)}",
        f"  {run.status}, {progress.fraction:.0%}: round {progress.round} of {progress.rounds}, step {progress.step} of {progress.steps}"
        + (f", about {progress.eta_seconds:.0f} s left" if progress.eta_seconds else "")
        + (f", number {run.queue_position} in the queue" if run.queue_position else ""),
        f"  {run.algorithm}, owned by {harmless(run.owner)}" + (f", tags {tags}" if tags else ""),
        f"  mutual improvement: {WORDS[run.verdict.mutual_improvement]}",
    ]
    for student in run.students:
        scores = "; ".join(
            f"{domain} {percent(student.scores.initial.get(domain)) or '-'} -> {percent(student.scores.latest.get(domain)) or '-'}"
            for domain in run.domains
        )
        gap = "" if student.gap is None else f"; gap {student.gap:.3f}, {'may' if student.cognizant else 'may not'} tutor"
        lines.append(f"  {student.name}: {scores}{gap}")
    if run.waiting_for:
        lines.append(f"  waits: {harmless(run.waiting_for)}")
    if run.error:
        lines += [f"  {harmless(run.error.message)}", f"  {harmless(run.error.advice)}"]
    return [*lines, f"  {client.url}/runs/{run.id}"]
