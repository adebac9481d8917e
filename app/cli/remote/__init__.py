"""The command line's verbs that speak to a server over REST, all of them with `--json`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from app.cli.remote import library, records, runs, students, sweeps, tokens, uploads, webhooks


def add_to(cli: typer.Typer) -> None:
    """Give `cli` these verbs."""
    verbs: tuple[Callable[..., None], ...] = (
        *(
            runs.launch,
            runs.estimate,
            runs.preflight,
            runs.runs,
            runs.show,
            runs.wait,
            runs.pause,
            runs.stop,
            runs.resume,
            runs.retry,
            runs.clone,
        ),
        *(runs.move, runs.change, runs.delete),
        *(
            records.logs,
            records.metrics,
            records.exchanges,
            records.evaluations,
            records.alerts,
            records.report,
            records.compare,
            records.export,
        ),
        *(library.queue, library.workers, library.domains, uploads.upload, students.specialist, students.chat, tokens.me),
    )
    for verb in verbs:
        cli.command()(verb)
    cli.command(name="events")(records.follow)
    cli.add_typer(sweeps.verbs, name="sweep")
    cli.add_typer(tokens.verbs, name="tokens")
    cli.add_typer(webhooks.verbs, name="webhooks")
