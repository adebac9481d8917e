"""`opcod students ...`, `opcod specialist`, `opcod chat`: bring students, teach them, ask them."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.remote.output import DEFAULT_URL, AsJson, Client, Token, Url, as_line, percent
from app.client import ServiceError
from app.library.shapes import Chat
from app.shapes import StudentShape
from opcod.config import merge, parse_change
from opcod.plain_text import harmless

StudentNumber = Annotated[int, typer.Argument(metavar="STUDENT", min=1, help="The student's number.")]
StudentName = Annotated[str, typer.Argument(help="What to call it.")]
Native = Annotated[str | None, typer.Option("--domain", help="Domain in which it is the stronger one.")]


def add_to(verbs: typer.Typer) -> None:
    """Give `opcod students` these verbs."""
    for verb in (add, upload, keep, download, forget):
        verbs.command()(verb)


def add(
    name: StudentName,
    model: Annotated[str, typer.Argument(help="Hub id, or a folder on the server.")],
    domain: Native = None,
    copy: Annotated[bool, typer.Option("--keep", help="Copy the folder into the studio's home.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Register a model under a name."""
    with Client(url, token=token) as client:
        _show(client.register_student(name, model, native_domain=domain, keep=copy), as_json)


def upload(
    name: StudentName,
    path: Annotated[Path, typer.Argument(help="Its model folder, or an uncompressed tar file of it.")],
    domain: Native = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Bring a model folder from this machine."""
    with _archive(path) as archive, Client(url, token=token) as client:
        _show(client.upload_student(name, archive, native_domain=domain), as_json)


def keep(student: StudentNumber, name: StudentName, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False) -> None:
    """Copy a student, such as a run's, into the studio's home."""
    with Client(url, token=token) as client:
        _show(client.keep_student(student, name), as_json)


def download(
    student: StudentNumber,
    path: Annotated[Path, typer.Argument(help="File to write.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Write a student's model folder into a tar file."""
    with Client(url, token=token) as client:
        print(f"{client.download_student(student, path)} bytes in {path}")


def forget(student: StudentNumber, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Take a student off the list; a folder that the studio kept for it is deleted."""
    with Client(url, token=token) as client:
        client.forget_student(student)


def specialist(
    name: StudentName,
    model: Annotated[str, typer.Option(help="Base student: hub id, folder on the server, or what `opcod students` shows as model.")],
    domain: Annotated[int, typer.Option(min=1, help="Number of the domain that teaches it; `opcod domains` lists them.")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting: `sft.epochs=5`, `learn=answers`; may be repeated.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is made.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Make a specialist: have a student fine-tuned on a domain by a worker."""
    settings: dict[str, Any] = {}
    for change in changes or ():
        settings = merge(settings, parse_change(change))
    with Client(url, token=token) as client:
        made = client.make_specialist(name, model, domain, **settings)
        if wait:
            made = client.wait_for_specialist(made.id)
        if as_json:
            print(as_line(made))
        elif made.before and made.after:
            print(f"specialist {made.id} is {made.state}: {percent(made.before.score)} before, {percent(made.after.score)} after")
        else:
            print(f"specialist {made.id} is {made.state}: {client.url}/specialists/{made.id}")
        if wait and made.state != "completed":
            raise _failure(made.error, "It was not made.")


def chat(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    students: Annotated[list[int], typer.Option("--student", min=1, help="Number of a student; give it twice for two.")],
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0 is greedy.")] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Longest answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")] = 0,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Ask one or two students, on a worker, and print what they say."""
    with Client(url, token=token) as client:
        asked = client.chat(students, question, temperature=temperature, max_tokens=max_tokens, seed=seed)
        done: Chat = client.wait_for_chat(asked.id)
    if as_json:
        print(as_line(done))
    for student, answer in () if as_json else zip(done.students, done.answers, strict=False):
        for sample in answer.samples:
            print(f"{student.name}: {harmless(sample.text, keep=chr(10))}")
    if done.state != "completed":
        raise _failure(done.error, "Nobody answered.")


def _failure(error: Any, otherwise: str) -> ServiceError:
    return ServiceError(error.message, advice=error.advice) if error is not None else ServiceError(otherwise)


def _show(student: StudentShape, as_json: bool) -> None:
    print(as_line(student) if as_json else f"student {student.id}: {student.model}")


@contextmanager
def _archive(path: Path) -> Iterator[Path]:
    """A tar file as it is; a folder's own files as one."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "student.tar"
        with tarfile.open(archive, "w") as tar:
            for file in sorted(path.iterdir()):
                if file.is_file():
                    tar.add(file, file.name)
        yield archive
