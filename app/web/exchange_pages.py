"""One exchange with all that belongs to it: its siblings, two texts side by side, the same question at other times, what people said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from markupsafe import Markup
from sqlmodel import Session, col, select

from app import shapes
from app.errors import NotFound
from app.records import comments, labels, queries
from app.records.exchange_queries import ExchangeFilters, has_tokens
from app.records.labels import STAR
from app.records.page_queries import get_cast
from app.records.search_terms import pattern
from app.tables import ExchangeRow, FeedbackRow
from app.web.contexts import Cast
from app.web.exchange_filters import query_of
from app.web.marking import BRIEF, Passage, Span, feedback_spans, hit_spans, passage, prompt_spans, question_spans
from app.web.neighbours import Neighbours, Stretch
from app.web.rich_text import rich
from app.web.word_diff import word_diff
from app.web.words import OUTCOMES

MOST_APPEARANCES = 200
"""Exchanges about the same question that are shown."""


@dataclass(frozen=True, slots=True)
class Look:
    """How an exchange is looked at; it lives in the address beside the filter."""

    full: bool = False
    """Texts whole, not their beginnings."""
    raw: bool = False
    """Texts as they are, Markdown and formulas not rendered."""
    beside: str = ""
    """What stands beside the rollout: another exchange's id, `again`, or `feedback` for raw and sanitised."""

    @property
    def pairs(self) -> dict[str, str]:
        chosen = {"full": "1" if self.full else "", "text": "raw" if self.raw else "", "beside": self.beside}
        return {name: value for name, value in chosen.items() if value}


@dataclass(frozen=True, slots=True)
class View:
    """A text as it is shown: its pieces, and rendered where that shows more and was not declined."""

    passage: Passage
    html: Markup | None = None


@dataclass(frozen=True, slots=True)
class Sibling:
    """A rollout of the same question in the same step."""

    id: int
    index: int
    correct: bool
    outcome: str | None
    effect: str | None
    current: bool


@dataclass(frozen=True, slots=True)
class Appearance:
    """The same question at another time, or of another student."""

    id: int
    index: int
    correct: bool
    current: bool


@dataclass(frozen=True, slots=True)
class Appearances:
    """The rollouts of the question by one student in one step."""

    tutee: str
    hue: int
    round: int
    step: int
    marks: tuple[Appearance, ...]


@dataclass(frozen=True, slots=True)
class FeedbackView:
    """The tutor's text with its marks, and what became of it."""

    raw: View
    outcome: str
    label: str
    reason: str
    concept: str | None
    matched_word: str | None
    removed: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of two texts side by side."""

    title: str
    correct: bool | None
    passage: Passage
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """What may stand beside the rollout."""

    value: str
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the self-teacher's prompt."""

    mark: str
    label: str
    characters: int


@dataclass(frozen=True, slots=True)
class Again:
    """The tutee's answer with the feedback in its prompt."""

    text: View
    correct: bool
    extracted: Passage | None
    effect: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What people made of an exchange."""

    exchange_id: int
    labels: tuple[shapes.Label, ...]
    starred: bool
    starred_by: str
    comments: tuple[shapes.Comment, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class ExchangePage:
    """One exchange."""

    id: int
    run_id: int
    run_name: str
    round: int
    step: int
    tutee: str
    tutee_hue: int
    tutor: str | None
    tutor_hue: int
    domain: str
    question_id: str
    question: View
    answer: View
    matched: bool
    siblings: tuple[Sibling, ...]
    sibling_previous: int | None
    sibling_next: int | None
    rollout: View
    rollout_index: int
    tokens: int
    correct: bool
    extracted: View | None
    truncated: bool
    own_solution: View | None
    feedback: FeedbackView | None
    teacher_prompt: View | None
    parts: tuple[Part, ...]
    in_loss: bool
    loss_reason: str
    divergence_mean: float | None
    divergence_max: float | None
    tokens_recorded: bool
    again: Again | None
    sides: tuple[Side, Side] | None
    options: tuple[Option, ...]
    appearances: tuple[Appearances, ...]
    notes: Notes
    previous: int | None
    next: int | None
    question_previous: int | None
    question_next: int | None
    filters: ExchangeFilters
    look: Look
    renders: bool
    """Whether any of its texts has Markdown or formulas."""

    @property
    def query(self) -> str:
        """The filter and the look, for the neighbours."""
        return query_of(self.filters, **replace(self.look, beside="").pairs)

    @property
    def list_query(self) -> str:
        """The filter with this exchange chosen, for the inspector."""
        return query_of(self.filters, **replace(self.look, beside="").pairs, exchange=self.id)

    @property
    def address_pairs(self) -> list[tuple[str, str]]:
        """The filter and the look but for what stands beside, for a form."""
        return parse_qsl(self.query[1:])

    def looked_at(self, **change: str | bool) -> str:
        """The address's query for this exchange, looked at otherwise."""
        return query_of(self.filters, **replace(self.look, **change).pairs) or "?"  # type: ignore[arg-type]


def exchange_page(
    session: Session, exchange_id: int, filters: ExchangeFilters, look: Look = Look(), stretch: Stretch | None = None
) -> ExchangePage:
    """One exchange; its neighbours are those of the filtered list, of which `stretch` is known.

    Raises:
        NotFound
    """
    row = session.get(ExchangeRow, exchange_id) if exchange_id < 2**63 else None
    if row is None:
        raise NotFound("exchange", exchange_id)
    run, cast = queries.run_row(session, row.run_id), get_cast(session, row.run_id)
    said = session.get(FeedbackRow, (row.run_id, row.seq))
    terms = filters.terms
    sought = pattern(terms) if terms else None
    anchors = question_spans(row.question_prompt, said.concept, said.matched_word) if said else []
    siblings = _siblings(session, row)
    near = Neighbours(session, row.run_id, filters, stretch) if stretch else Neighbours.around(session, row.run_id, filters, exchange_id)
    place = next(index for index, sibling in enumerate(siblings) if sibling.current)
    appearances = _appearances(session, row, cast)

    def view(text: str, spans: Sequence[Span] = (), *, first: int | None = None) -> View:
        marks = [*spans, *hit_spans(text, sought)]
        shown = passage(text, marks, full=look.full, first=first) if first else passage(text, marks, full=look.full)
        return View(shown, None if look.raw else rich(shown))

    prompt = row.teacher_prompt
    kept = said.text if said and said.outcome == "kept" else None
    parts = prompt_spans(prompt, row.question_prompt, row.own_solution, kept) if prompt else []
    question, rollout = view(row.question_prompt, anchors), view(row.rollout_text)
    feedback = _feedback(said, view(said.raw, feedback_spans(said.raw, said.concept, said.removed))) if said else None
    again = _again(row, view(row.again_text)) if row.again_text is not None else None
    return ExchangePage(
        id=exchange_id,
        run_id=row.run_id,
        run_name=run.name,
        round=row.round,
        step=row.step,
        tutee=row.tutee,
        tutee_hue=cast.hue(row.tutee),
        tutor=row.tutor,
        tutor_hue=cast.hue(row.tutor),
        domain=row.domain,
        question_id=row.question_id,
        question=question,
        answer=view(row.question_answer, first=BRIEF),
        matched=bool(anchors),
        siblings=siblings,
        sibling_previous=siblings[place - 1].id if place else None,
        sibling_next=siblings[place + 1].id if place + 1 < len(siblings) else None,
        rollout=rollout,
        rollout_index=row.rollout_index,
        tokens=row.rollout_tokens,
        correct=row.correct,
        extracted=view(row.extracted, first=BRIEF) if row.extracted is not None else None,
        truncated=row.truncated,
        own_solution=view(row.own_solution) if row.own_solution is not None else None,
        feedback=feedback,
        teacher_prompt=View(passage(prompt, parts, full=look.full)) if prompt is not None else None,
        parts=_parts(parts),
        in_loss=row.in_loss,
        loss_reason=_loss_reason(row, cast.algorithm),
        divergence_mean=row.divergence_mean,
        divergence_max=row.divergence_max,
        tokens_recorded=has_tokens(session, row),
        again=again,
        sides=_sides(session, row, said, look.beside),
        options=_options(row, siblings, appearances, look.beside),
        appearances=appearances,
        notes=notes(session, exchange_id),
        previous=near.before(exchange_id),
        next=near.after(exchange_id),
        question_previous=_question_before(session, near, siblings),
        question_next=near.after(max(sibling.id for sibling in siblings)),
        filters=filters,
        look=look,
        renders=look.raw
        or any(one is not None and one.html is not None for one in (question, rollout, feedback.raw if feedback else None)),
    )


def notes(session: Session, exchange_id: int, error: str = "") -> Notes:
    """Labels, star and comments of an exchange.

    Raises:
        NotFound
    """
    found = labels.of(session, exchange_id)
    star = next((label for label in found if label.label == STAR), None)
    return Notes(
        exchange_id=exchange_id,
        labels=tuple(label for label in found if label.label != STAR),
        starred=star is not None,
        starred_by=star.person if star else "",
        comments=tuple(comments.of(session, exchange_id).items),
        error=error,
    )


def _question_before(session: Session, near: Neighbours, siblings: Sequence[Sibling]) -> int | None:
    """The first rollout that fits of the question before this one in the list."""
    last = near.before(min(sibling.id for sibling in siblings))
    before = session.get(ExchangeRow, last) if last is not None else None
    if before is None:
        return None
    return near.after(min(sibling.id for sibling in _siblings(session, before)) - 1)


def _columns(*names: str) -> Any:
    return select(*(getattr(ExchangeRow, name) for name in names))


def _siblings(session: Session, row: ExchangeRow) -> tuple[Sibling, ...]:
    same = _columns("id", "rollout_index", "correct", "outcome", "effect").where(
        col(ExchangeRow.run_id) == row.run_id,
        col(ExchangeRow.tutee) == row.tutee,
        col(ExchangeRow.step) == row.step,
        col(ExchangeRow.group) == row.group,
    )
    found = session.exec(same.order_by(col(ExchangeRow.rollout_index), col(ExchangeRow.id))).all()
    return tuple(Sibling(key, index, correct, outcome, effect, key == row.id) for key, index, correct, outcome, effect in found)


def _appearances(session: Session, row: ExchangeRow, cast: Cast) -> tuple[Appearances, ...]:
    """Every time that the run asked this question, of either student, in the order of the run; empty where it was only now."""
    same = (
        _columns("id", "tutee", "round", "step", "rollout_index", "correct")
        .where(
            col(ExchangeRow.run_id) == row.run_id, col(ExchangeRow.domain) == row.domain, col(ExchangeRow.question_id) == row.question_id
        )
        .order_by(col(ExchangeRow.id))
        .limit(MOST_APPEARANCES)
    )
    found: dict[tuple[str, int, int], list[Appearance]] = {}
    for key, tutee, round_, step, index, correct in session.exec(same).all():
        found.setdefault((tutee, round_, step), []).append(Appearance(key, index, correct, key == row.id))
    if len(found) < 2:
        return ()
    return tuple(Appearances(tutee, cast.hue(tutee), round_, step, tuple(marks)) for (tutee, round_, step), marks in found.items())


def _feedback(said: FeedbackRow, raw: View) -> FeedbackView:
    label, reason = OUTCOMES[said.outcome]  # type: ignore[index]
    return FeedbackView(raw, said.outcome, label, reason, said.concept, said.matched_word, len(said.removed))


def _again(row: ExchangeRow, text: View) -> Again:
    reasons = {
        (True, True): "It was right, and stayed right with the feedback.",
        (True, False): "The feedback broke it: right without, wrong with it.",
        (False, True): "The feedback rescued it: wrong without, right with it.",
        (False, False): "It was wrong, and stayed wrong with the feedback.",
    }
    extracted = passage(row.again_extracted, first=BRIEF) if row.again_extracted is not None else None
    correct = bool(row.again_correct)
    return Again(text, correct, extracted, row.effect, reasons[row.correct, correct])


def _parts(spans: Sequence[Span]) -> tuple[Part, ...]:
    named = {"question": "the question", "solution": "the tutee’s own solution", "feedback": "the kept feedback"}
    return tuple(Part(mark, named[mark], end - start) for start, end, mark in spans)


def _options(row: ExchangeRow, siblings: Sequence[Sibling], appearances: Sequence[Appearances], beside: str) -> tuple[Option, ...]:
    found = []
    if row.again_text is not None:
        found.append(("again", f"Its answer with the feedback {_sign(bool(row.again_correct))}"))
    found += [(str(one.id), f"Rollout {one.index + 1} {_sign(one.correct)}") for one in siblings if not one.current]
    known = {sibling.id for sibling in siblings}
    for time in appearances:
        found += [
            (str(one.id), f"{time.tutee}, round {time.round}, step {time.step}, rollout {one.index + 1} {_sign(one.correct)}")
            for one in time.marks
            if one.id not in known
        ]
    return tuple(Option(value, label, value == beside) for value, label in found)


def _sign(correct: bool) -> str:
    return "✓" if correct else "✗"


def _sides(session: Session, row: ExchangeRow, said: FeedbackRow | None, beside: str) -> tuple[Side, Side] | None:
    """The two texts side by side; None where nothing was asked for, or what was asked for is not there."""
    if beside == "feedback":
        if said is None:
            return None
        left, right = word_diff(said.raw, said.text)
        return Side("As the tutor said it", None, left), Side("As the self-teacher may see it", None, right)
    here = f"Rollout {row.rollout_index + 1}"
    if beside == "again":
        if row.again_text is None:
            return None
        left, right = word_diff(row.rollout_text, row.again_text)
        return Side(f"{here}, before the feedback", row.correct, left), Side("With the feedback", bool(row.again_correct), right)
    other = session.get(ExchangeRow, int(beside)) if re.fullmatch(r"\d{1,18}", beside, re.ASCII) else None
    if other is None or other.run_id != row.run_id:
        return None
    left, right = word_diff(row.rollout_text, other.rollout_text)
    same_time = (other.tutee, other.step, other.group) == (row.tutee, row.step, row.group)
    title = f"Rollout {other.rollout_index + 1}" if same_time else f"{other.tutee}, round {other.round}, step {other.step}"
    return Side(here, row.correct, left), Side(title, other.correct, right, f"/exchanges/{other.id}")


def _loss_reason(row: ExchangeRow, algorithm: str) -> str:
    if algorithm == "grpo":
        if row.in_loss:
            return "It counted in the update by its reward, measured against the other answers to its question; GRPO has no self-teacher."
        return "The update learned nothing from it: the answers to its question were all right, or all wrong. GRPO has no self-teacher."
    if not row.in_loss:
        return "Left out of the update: the self-teacher had neither a solution nor kept feedback to show."
    had = [
        text
        for text, given in (("a correct solution of the tutee’s own", row.own_solution), ("the kept feedback", row.outcome == "kept"))
        if given
    ]
    return f"It counted in the update: the self-teacher was shown {' and '.join(had) or 'more than the question'}."
