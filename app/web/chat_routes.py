"""Pages of chats."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.dependencies import CurrentEngine, CurrentPerson, CurrentSettings, Reader
from app.db import reading
from app.errors import Invalid, NotFound, Refused
from app.library import chats
from app.lifecycle import asking
from app.templating import render
from app.web import chat_page, form_faults
from app.web.deps import Pairs, go_to, wants_fragment

router = APIRouter()


@router.get("/chats")
def page(request: Request, session: Reader, settings: CurrentSettings) -> Response:
    """Form and list; `first` and `second` choose students, `domain_id` and `question_id` a question."""
    sent = {name: value[:500] for name, value in request.query_params.items() if name in ("first", "second", "domain_id", "question_id")}
    form = chat_page.form(session, settings, sent)
    return render(request, "pages/chats.html", page=chat_page.ChatPage(form, chat_page.chat_list(session)))


@router.get("/chats/list")
def listed(request: Request, session: Reader) -> Response:
    """The list alone, as it is now."""
    return render(request, "partials/chat_list.html", listing=chat_page.chat_list(session))


@router.get("/chats/question")
def question(request: Request, session: Reader) -> Response:
    """The part of the form with the question, after another domain was chosen."""
    return render(request, "partials/chat_question.html", question=chat_page.question(session, dict(request.query_params), {}))


@router.post("/chats")
def ask(request: Request, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson, pairs: Pairs) -> Response:
    """Ask."""
    sent = dict(pairs) | {"asked": "1"}
    new, faults = chat_page.read_form(sent)
    if new is not None:
        try:
            asking.job(engine, settings.broker_url, lambda session: chats.ask(session, settings, new, person=person.name))
        except (Invalid, NotFound, Refused) as error:
            names = {"students.0": "first", "students.1": "second"}
            faults = {names.get(path, path): text for path, text in form_faults.of_error(error).items()}
    if not faults and not wants_fragment(request):
        return go_to(request, "/chats")
    with reading(engine) as session:
        form = chat_page.form(session, settings, sent, faults)
        page = chat_page.ChatPage(form, chat_page.chat_list(session))
        template = "partials/chat_page.html" if wants_fragment(request) else "pages/chats.html"
        return render(request, template, status=422 if faults else 200, page=page)
