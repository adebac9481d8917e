"""Pages of students."""

from __future__ import annotations

from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from app.api import students as rest
from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, CurrentStore, Reader
from app.db import reading
from app.errors import Invalid, NoRoom, Refused
from app.library import folders, students, taking
from app.library.students import KeepStudent, NewStudent
from app.templating import render
from app.web import form_faults
from app.web.deps import Pairs, go_to, wants_fragment
from app.web.exchange_filters import whole
from app.web.form_faults import Faults, SentForm
from app.web.students_page import Choices, NewStudentPage, student_page, students_list

router = APIRouter()


@router.get("/students")
def student_list(request: Request, session: Reader, settings: CurrentSettings, before: str = "") -> Response:
    """The list of students."""
    return render(request, "pages/students.html", page=students_list(session, settings, before=whole(before)))


@router.get("/students/new")
def new(request: Request, settings: CurrentSettings) -> Response:
    """Both ways to bring a student."""
    return _new_page(request, settings)


@router.get("/students/choices")
def choices(request: Request, session: Reader, settings: CurrentSettings) -> Response:
    """The students that a field for a model offers; asked for by pages with such a field."""
    return render(request, "partials/student_choices.html", offered=Choices(tuple(students.choices(session, settings))))


@router.post("/students")
def register(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Register one."""
    sent = dict(pairs)
    data = {"name": sent.get("name", ""), "model": sent.get("model", "").strip(), "keep": sent.get("keep") == "1"}
    new, faults = form_faults.read(NewStudent, data | {"native_domain": sent.get("native_domain", "").strip() or None})
    if new is not None:
        try:
            return go_to(request, f"/students/{taking.register(engine, settings, new, person=person.name)}")
        except (Invalid, NoRoom, Refused) as error:
            faults = form_faults.of_error(error)
    form = SentForm(sent=sent, faults=faults)
    if wants_fragment(request):
        return render(request, "partials/student_register.html", status=422, form=form)
    return _new_page(request, settings, register=form)


@router.post("/uploads/students")
async def upload(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Response:
    """Bring one: the files of its folder, or a tar of them."""
    async with request.form(max_fields=20, max_files=folders.MOST_FILES) as sent:
        files = [(file.filename or "", file.file, file.size or 0) for file in sent.getlist("files") if isinstance(file, UploadFile)]
        words = {name: value for name, value in sent.items() if isinstance(value, str)}
        answer = partial(_take, request, engine, settings, words, [file for file in files if file[0]], person.name)
        return await to_thread.run_sync(answer)


def _take(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, sent: dict[str, str], files: list[Any], person: str
) -> Response:
    named, faults = form_faults.read(KeepStudent, {"name": sent.get("name", "")})
    domain = sent.get("native_domain", "").strip()
    also: Faults = {"files": "Choose the files of a model folder, or one tar of them."} if not files else {}
    if named is not None and domain and form_faults.read(KeepStudent, {"name": domain})[0] is None:
        also = {**also, "native_domain": "Letters, digits, `_`, `.` and `-`."}
    faults = {**faults, **also}
    if named is not None and not faults:
        try:
            made = taking.upload(engine, settings, named.name, domain or None, files, field="files", person=person)
            return go_to(request, f"/students/{made}")
        except (Invalid, NoRoom, Refused) as error:
            faults = form_faults.of_error(error)
    form = SentForm(sent=sent, faults=faults)
    if wants_fragment(request):
        return render(request, "partials/student_upload.html", status=422, form=form)
    return _new_page(request, settings, upload=form)


def _new_page(request: Request, settings: CurrentSettings, **forms: SentForm) -> Response:
    page = NewStudentPage(forms.get("register", SentForm()), forms.get("upload", SentForm()), settings.upload_megabytes)
    return render(request, "pages/student_new.html", status=422 if forms else 200, page=page)


@router.get("/students/{student_id:int}")
def student(request: Request, student_id: int, session: Reader, settings: CurrentSettings) -> Response:
    """One student, its files looked at now."""
    return render(request, "pages/student.html", page=student_page(session, settings, student_id))


@router.get("/students/{student_id:int}/export")
def export(student_id: int, session: Reader, settings: CurrentSettings, store: CurrentStore) -> Response:
    """Its folder as a tar file."""
    return rest.export(student_id, session, settings, store)


@router.post("/students/{student_id:int}/keep")
def keep(
    request: Request,
    student_id: int,
    engine: CurrentEngine,
    settings: CurrentSettings,
    store: CurrentStore,
    person: CurrentPerson,
    pairs: Pairs,
) -> Response:
    """Copy it into the studio's home."""
    sent = dict(pairs)
    named, faults = form_faults.read(KeepStudent, {"name": sent.get("name", "")})
    if named is not None:
        try:
            return go_to(request, f"/students/{taking.keep(engine, settings, store, student_id, named.name, person=person.name)}")
        except (Invalid, NoRoom, Refused) as error:
            faults = form_faults.of_error(error)
    with reading(engine) as session:
        page = student_page(session, settings, student_id, SentForm(sent=sent, faults=faults))
        return render(request, "pages/student.html", status=422, page=page)


@router.post("/students/{student_id:int}/delete")
def forget(request: Request, student_id: int, engine: CurrentEngine, settings: CurrentSettings) -> Response:
    """Take it off the list."""
    taking.forget(engine, settings, student_id)
    return go_to(request, "/students")
