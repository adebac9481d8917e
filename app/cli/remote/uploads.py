"""Bring a domain's files to the server and make a domain of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Token, Url, as_line
from opcod.config import DomainConfig
from opcod.plain_text import harmless

DataFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="A file of its own; without it, some of train is held out.")
]
HeldOut = Annotated[int, typer.Option(min=0, help="Questions of train to hold out for it.")]
MARKS = {"stops": "stops a run", "warns": "look at", "notes": "note"}


def upload(
    train: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Training questions: JSONL, CSV or Parquet.")],
    name: Annotated[str, typer.Option(help="What the domain is called.")],
    validation: DataFile = None,
    test: DataFile = None,
    hold_validation: HeldOut = 0,
    hold_test: HeldOut = 0,
    column: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="Where the guess is wrong: prompt=Question; repeat it for more.")
    ] = None,
    mend: Annotated[
        list[str] | None, typer.Option(help="unanswerable, long_prompts, duplicates, leaks or ids; repeat it for more.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Upload a domain's questions, have them checked, and keep them where experiments can name them."""
    with Client(url, token=token) as client:
        brought = client.upload(train, validation=validation, test=test)
        columns = brought.guess.columns.model_dump() | dict(pair.partition("=")[::2] for pair in column or ())
        hold_out = {"validation": hold_validation, "test": hold_test}
        mapping = {"name": name, "columns": columns, "hold_out": hold_out, "mend": mend or []}
        check = client.check_upload(brought.id, mapping)
        if not as_json:
            for finding in check.findings:
                typer.echo(harmless(f"{MARKS[finding.severity]}: {finding.message} {finding.advice}"), err=True)
        if not check.ready:
            if as_json:
                print(as_line(check))
            typer.echo(f"Nothing was kept of it yet. Mend it at {client.url}/uploads/{brought.id}, or upload again with --mend.", err=True)
            raise typer.Exit(1)
        saved = client.save_upload(brought.id, mapping)
        assert saved.domain is not None
        kept = DomainConfig.model_validate(saved.domain.config).model_dump(mode="json", exclude_defaults=True)
        print(as_line(saved) if as_json else yaml.safe_dump({"domains": [kept]}, sort_keys=False).rstrip())
