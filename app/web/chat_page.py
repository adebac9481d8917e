"""Chats: the form that asks, and what students said, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from sqlmodel import Session

from app import shapes
from app.errors import Invalid, NotFound
from app.library import chats, students
from app.library.chats import NewChat
from app.library.shapes import Chat, ChatAnswer
from app.library.students import Choice
from app.records import queries
from app.settings import Settings
from app.web.form_faults import Faults, SentForm, of_faults, read
from app.web.marking import passage
from app.web.rich_text import rich

SHOWN = 20
"""Chats on the page; REST has all."""
DOMAINS = 200
LONGEST_ANSWER = 8_000
LONGEST_QUESTION = 2_000
LONGEST_OPTION = 110
SAMPLER = ("temperature", "top_p", "max_tokens", "samples", "seed")
STATES: Mapping[str, str] = {
    "queued": "Waiting for a worker", "running": "Under way", "completed": "Answered", "failed": "Failed", "cancelled": "Cancelled",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SampleView:
    """One answer, bounded; `html` where it is more than plain text."""

    text: str
    html: Markup | None
    cut: bool
    tokens: int
    truncated: bool
    correct: bool | None
    extracted: str


@dataclass(frozen=True, slots=True)
class SideView:
    """One student's side."""

    student_id: int
    name: str
    hue: int
    samples: tuple[SampleView, ...] | None
    """None while they are being sampled."""
    right: int | None
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChatView:
    """One chat."""

    chat: Chat
    word: str
    active: bool
    question: str
    question_html: Markup | None
    cut: bool
    sides: tuple[SideView, ...]


@dataclass(frozen=True, slots=True)
class ChatList:
    """Its `active`: something changes still, so the page asks again."""

    chats: tuple[ChatView, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class QuestionOption:
    """A question that the form offers."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """The part of the form that holds the question: one's own, or a choice of a domain's."""

    domains: tuple[shapes.DomainShape, ...]
    domain: str
    options: Sequence[QuestionOption]
    chosen: str
    own: str
    system: str
    faults: Faults

    def fault(self, name: str) -> str:
        return self.faults.get(name, "")


@dataclass(frozen=True, slots=True)
class ChatForm(SentForm):
    """The form of a new chat."""

    choices: tuple[Choice, ...]
    question: ChatQuestion


@dataclass(frozen=True, slots=True)
class ChatPage:
    """The whole page."""

    form: ChatForm
    listing: ChatList


def form(session: Session, settings: Settings, sent: Mapping[str, str], faults: Faults | None = None) -> ChatForm:
    """The form as it is to be shown."""
    known = tuple(choice for choice in students.choices(session, settings) if choice.id is not None)
    defaults = {name: f"{NewChat.model_fields[name].default:g}" for name in SAMPLER}
    firsts = {"first": str(known[0].id), "second": str(known[1].id) if len(known) > 1 else ""} if known and not sent.get("first") else {}
    sent = {**defaults, **firsts, **sent} if "asked" not in sent else sent
    return ChatForm(sent=sent, faults=faults or {}, choices=known, question=question(session, sent, faults or {}))


def question(session: Session, sent: Mapping[str, str], faults: Faults) -> ChatQuestion:
    """The part of the form with the question."""
    domain, options = sent.get("domain_id", ""), list[QuestionOption]()
    if domain.isdecimal():
        try:
            _, data = chats.domain_questions(session, int(domain[:10]))
            options = [QuestionOption(one.id, _option(one.prompt)) for one in chats.all_questions(data)[: chats.OFFERED]]
        except Invalid as error:
            faults = {**faults, **of_faults(error.faults)}
        except NotFound as error:
            faults = {**faults, "domain_id": str(error)}
    domains = tuple(queries.domains(session, limit=DOMAINS).items)
    return ChatQuestion(domains, domain, options, sent.get("question_id", ""), sent.get("question", ""), sent.get("system", ""), faults)


def _option(prompt: str) -> str:
    line = " ".join(prompt[: 4 * LONGEST_OPTION].split())
    return line if len(line) <= LONGEST_OPTION else f"{line[: LONGEST_OPTION - 1]}…"


def read_form(sent: Mapping[str, str]) -> tuple[NewChat | None, Faults]:
    """What the form asks, or what is wrong with it."""
    asked = [sent[name] for name in ("first", "second") if sent.get(name, "").strip()]
    if not asked:
        return None, {"first": "Choose a student."}
    data: dict[str, object] = {"students": asked} | {name: sent[name].strip() for name in SAMPLER if sent.get(name, "").strip()}
    if sent.get("domain_id", "").strip():
        if not sent.get("question_id"):
            return None, {"question_id": "Choose a question."}
        data |= {"domain_id": sent["domain_id"], "question_id": sent["question_id"]}
    else:
        if not sent.get("question", "").strip():
            return None, {"question": "Write a question."}
        data |= {"question": sent["question"].replace("\r\n", "\n"), "system": sent.get("system", "").replace("\r\n", "\n") or None}
    new, faults = read(NewChat, data)
    named = {"students.0": "first", "students.1": "second"}
    return new, {named.get(path, path): text for path, text in faults.items()}


def chat_list(session: Session) -> ChatList:
    """The newest chats."""
    views = tuple(_view(one) for one in chats.listing(session, limit=SHOWN).items)
    return ChatList(views, any(view.active for view in views))


def _view(one: Chat) -> ChatView:
    active = one.state in ("queued", "running")
    sides = []
    for index, student in enumerate(one.students):
        answer = one.answers[index] if index < len(one.answers) else None
        if answer is not None or active:
            sides.append(_side(student.student_id, student.name, index + 1, answer))
    text = one.question[:LONGEST_QUESTION]
    return ChatView(one, STATES[one.state], active, text, rich(passage(text)), len(one.question) > LONGEST_QUESTION, tuple(sides))


def _side(student_id: int, name: str, hue: int, answer: ChatAnswer | None) -> SideView:
    if answer is None:
        return SideView(student_id, name, hue, None, None, 0, 0.0)
    samples = []
    for one in answer.samples:
        text = one.text[:LONGEST_ANSWER]
        html = rich(passage(text, first=LONGEST_ANSWER))
        cut, found = len(one.text) > LONGEST_ANSWER, (one.extracted or "")[:200]
        samples.append(SampleView(text, html, cut, one.tokens, one.truncated, one.correct, found))
    judged = [one.correct for one in answer.samples if one.correct is not None]
    tokens = sum(one.tokens for one in answer.samples)
    return SideView(student_id, name, hue, tuple(samples), sum(judged) if judged else None, tokens, answer.seconds)
