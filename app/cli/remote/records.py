"""What runs left behind: log, metrics, exchanges, scores, reports, files."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Columns, Limit, RunNumber, Token, Url, as_line, percent, show_items
from app.client.asynchronous import ENDED
from app.records.comparison_shapes import ComparedRun, ComparedScore
from opcod.plain_text import harmless

FOLLOW_SECONDS = 1.0


def logs(
    run: RunNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    after: Annotated[int | None, typer.Option(min=0, help="Byte to begin at; without it, the log's last part.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print a run's log."""
    with Client(url, token=token) as client:
        while True:
            ended = not follow or client.run(run).status in (*ENDED, "paused")
            part = client.log(run, after=after)
            after = int(part.next_cursor)
            if part.text:
                print(as_line(part) if as_json else harmless(part.text, keep="\n\t"), end="\n" if as_json else "", flush=True)
            elif ended:
                return
            else:
                time.sleep(FOLLOW_SECONDS)
            if not follow and after >= part.size:
                return


def follow(
    run: RunNumber,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds of event; repeat it for more.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Number of the last event that you have.")] = 0,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print what happens in a run until it has ended."""
    with Client(url, token=token) as client:
        for event in client.follow(run, after=after, kinds=kind or ()):
            about = " ".join(f"{key}={value}" for key, value in event.data.items())
            print(as_line(event) if as_json else harmless(f"{event.id} {event.at:%H:%M:%S} {event.kind} {about}"), flush=True)


def metrics(
    run: RunNumber,
    name: Annotated[
        list[str] | None, typer.Option(help="Only this metric, such as student1/train/loss; student1/* for all that begin so.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Number of the last point that you have.")] = None,
    limit: Limit = 1000,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print a run's metrics in order of arrival."""
    columns: Columns = {
        "round": lambda point: point.round,
        "step": lambda point: point.step,
        "name": lambda point: point.name,
        "value": lambda point: point.value,
    }
    with Client(url, token=token) as client:
        show_items(client.metrics(run, name=name or (), after=after, limit=limit), columns, as_json)


Outcome = Annotated[list[str] | None, typer.Option(help="Only feedback that ended so: kept, no_match, none, ... Repeat it for more.")]
DomainName = Annotated[str | None, typer.Option(help="Only this domain.")]
Student = Annotated[str | None, typer.Option(help="Only this tutee.")]
Step = Annotated[int | None, typer.Option(min=0, help="Only this update of the tutee.")]
Round = Annotated[int | None, typer.Option(min=0, help="Only this round.")]
LabelName = Annotated[str | None, typer.Option(help="Only with this label.")]
Effect = Annotated[Literal["break", "rescue"] | None, typer.Option(help="Only where the feedback broke, or rescued, the answer.")]
Search = Annotated[str | None, typer.Option(help='Only with these words in question, response or feedback; "a phrase", -not, begin*.')]


def exchanges(
    run: RunNumber,
    outcome: Outcome = None,
    domain: DomainName = None,
    student: Student = None,
    step: Step = None,
    round: Round = None,
    label: LabelName = None,
    effect: Effect = None,
    search: Search = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print what the students said to each other."""
    columns: Columns = {
        "id": lambda item: item.id,
        "step": lambda item: item.step,
        "tutee": lambda item: item.tutee,
        "question": lambda item: item.question.prompt,
        "response": lambda item: item.rollout.text,
        "correct": lambda item: "yes" if item.rollout.correct else "no",
        "feedback": lambda item: item.feedback.text if item.feedback else "",
        "outcome": lambda item: item.feedback.outcome if item.feedback else "",
    }
    filters = {"outcome": outcome, "domain": domain, "student": student, "step": step, "round": round, "label": label}
    filters |= {"effect": effect, "q": search}
    with Client(url, token=token) as client:
        show_items(client.exchanges(run, limit=limit, **filters), columns, as_json)


def alerts(run: RunNumber, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Print what goes wrong in a run as it is now, and what to try."""
    columns: Columns = {
        "kind": lambda one: one.kind,
        "student": lambda one: one.student or "",
        "what is seen": lambda one: one.message,
        "what to try": lambda one: one.advice,
    }
    with Client(url, token=token) as client:
        show_items(client.alerts(run), columns, as_json)


def evaluations(run: RunNumber, limit: Limit = 1000, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Print a run's scores with their intervals."""
    columns: Columns = {
        "round": lambda one: one.round,
        "student": lambda one: one.student,
        "domain": lambda one: one.domain,
        "split": lambda one: one.split,
        "score": lambda one: percent(one.score),
        "95 % interval": lambda one: f"{percent(one.low)} to {percent(one.high)}",
        "questions": lambda one: f"{one.questions} x {one.samples}",
    }
    with Client(url, token=token) as client:
        show_items(client.evaluations(run, limit=limit), columns, as_json)


def report(
    run: RunNumber,
    format: Annotated[Literal["markdown", "csv", "latex"], typer.Option(help="How it is written.")] = "markdown",
    compare: Annotated[list[int] | None, typer.Option(min=1, help="A run whose scores stand beside; repeat it for more.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print a run's report: Table 1 with intervals, gate, feedback, time."""
    with Client(url, token=token) as client:
        if as_json:
            print(as_line(client.report(run, compare=compare or ())))
        else:
            print(harmless(client.report_text(run, format, compare=compare or ()), keep="\n"), end="")


def compare(
    runs: Annotated[list[int], typer.Argument(metavar="RUN...", min=1, help="Numbers of up to 50 runs.")],
    split: Annotated[Literal["test", "validation"] | None, typer.Option(help="On which questions; as it fits all runs otherwise.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Print the newest scores of several runs side by side; with --json all that differs between them."""
    with Client(url, token=token) as client:
        found = client.compare(runs, split=split)
    if as_json:
        print(as_line(found))
        return

    def score(line: ComparedScore, run: ComparedRun) -> str:
        return percent(one.score if (one := line.latest[found.runs.index(run)]) else None)

    columns: Columns = {
        "run": lambda run: f"{run.run_id}: {run.name}",
        "configuration": lambda run: found.groups[run.group].label,
        **{f"{line.student} {line.domain}": partial(score, line) for line in found.scores},
        "Pareto-best": lambda run: {True: "yes", False: "no", None: ""}[run.front],
        "mutual": lambda run: {True: "yes", False: "no", None: ""}[run.mutual_improvement],
    }
    show_items(found.runs, columns, as_json)


def export(
    run: RunNumber,
    file: Annotated[Path, typer.Argument(help="Where to; its ending names the format: .jsonl, .parquet, .csv (metrics only).")],
    what: Annotated[Literal["metrics", "exchanges"], typer.Option(help="What to export.")] = "exchanges",
    outcome: Outcome = None,
    domain: DomainName = None,
    student: Student = None,
    label: LabelName = None,
    effect: Effect = None,
    search: Search = None,
    name: Annotated[list[str] | None, typer.Option(help="Only these metrics; student1/* for all that begin so.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Save all metrics or exchanges of a run to a file."""
    format = file.suffix.lower().lstrip(".") or "jsonl"
    with Client(url, token=token, timeout=60.0) as client:
        if what == "metrics":
            size = client.export_metrics(run, file, format=format, name=name or ())
        else:
            filters = {"outcome": outcome, "domain": domain, "student": student, "label": label, "effect": effect, "q": search}
            size = client.export_exchanges(run, file, format=format, **filters)
    print(as_line({"file": str(file), "bytes": size}) if as_json else f"{file}: {size:,} bytes")
