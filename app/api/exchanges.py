"""What the students said to each other: lists, single exchanges, export, labels."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response, status
from fastapi.responses import StreamingResponse
from pydantic import Field

from app import shapes
from app.api.conditional import ConditionalRoute
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, Cursor, Limit, Order, Reader, RunId
from app.api.downloads import download, downloads
from app.db import reading, writing
from app.records import comments, exchange_facets, exchange_queries, exports, labels, queries, token_lens, views
from app.records.exchange_queries import ExchangeFilters
from app.records.search_terms import LONGEST as LONGEST_SEARCH
from opcod.types import FeedbackOutcome

router = APIRouter(tags=["exchanges"], route_class=ConditionalRoute)

ExchangeId = Annotated[int, Path(description="The exchange's id.", ge=1, le=2**63 - 1)]
LabelName = Annotated[str, Path(description="The word.", min_length=1, max_length=labels.LONGEST)]
Text = Annotated[str | None, Query(max_length=200)]
LARGEST_COUNT = 2**31 - 1


def _filters(
    round: Annotated[int | None, Query(description="Only of this round.", ge=0, le=LARGEST_COUNT)] = None,
    step: Annotated[int | None, Query(description="Only of this update of the tutee.", ge=0, le=LARGEST_COUNT)] = None,
    student: Annotated[str | None, Query(description="Only with this tutee.", max_length=64)] = None,
    tutee: Annotated[str | None, Query(description="The same as `student`.", max_length=64)] = None,
    tutor: Annotated[str | None, Query(description="Only with this tutor.", max_length=64)] = None,
    domain: Annotated[str | None, Query(description="Only of this domain.", max_length=64)] = None,
    question: Annotated[str | None, Query(description="Only with this question, by its id.", max_length=1_000)] = None,
    correct: Annotated[bool | None, Query(description="Only right, or only wrong responses.")] = None,
    in_loss: Annotated[bool | None, Query(description="Only what the loss counted, or what it did not.")] = None,
    outcome: Annotated[
        list[FeedbackOutcome | Literal["none"]] | None,
        Query(description="Only with feedback that ended so; `none`: without feedback. Repeat it for more."),
    ] = None,
    effect: Annotated[Literal["break", "rescue"] | None, Query(description="Only where the feedback did this to the answer.")] = None,
    label: Annotated[
        str | None, Query(description="Only with this label. A star is the label `starred`.", max_length=labels.LONGEST)
    ] = None,
    q: Annotated[
        str | None,
        Query(
            description='Words that must occur in question, rollout or feedback. `"a phrase"`, `-not`, `begin*`.',
            max_length=LONGEST_SEARCH,
        ),
    ] = None,
    id: Annotated[
        list[Annotated[int, Field(ge=1, le=2**63 - 1)]] | None, Query(description="Only these. Repeat it for more.", max_length=500)
    ] = None,
) -> ExchangeFilters:
    return ExchangeFilters(
        round=round,
        step=step,
        tutee=tutee or student,
        tutor=tutor,
        domain=domain,
        question=question,
        correct=correct,
        in_loss=in_loss,
        outcomes=tuple(outcome or ()),
        effect=effect,
        label=label,
        search=q,
        ids=tuple(id or ()),
    )


Filters = Annotated[ExchangeFilters, Depends(_filters)]


@router.get("/runs/{run_id}/exchanges")
def exchanges(
    run_id: RunId, session: Reader, filters: Filters, order: Order = "oldest", cursor: Cursor = None, limit: Limit = 50
) -> shapes.Listing[shapes.Exchange]:
    """Exchanges; every filter narrows."""
    queries.run_row(session, run_id)
    return exchange_queries.exchanges(session, run_id, filters, after=queries.cursor(cursor), newest_first=order == "newest", limit=limit)


@router.get("/runs/{run_id}/exchanges/facets")
def facets(run_id: RunId, session: Reader, filters: Filters) -> shapes.Facets:
    """How many exchanges fit, and how many would with another value of each filter."""
    queries.run_row(session, run_id)
    return exchange_facets.facets(session, run_id, filters)


@router.get("/runs/{run_id}/exchanges/export", response_class=StreamingResponse, responses=downloads("jsonl", "parquet"))
def export(
    run_id: RunId,
    engine: CurrentEngine,
    filters: Filters,
    format: Annotated[Literal["jsonl", "parquet"], Query(description="JSON lines, or Parquet with nested fields side by side.")] = "jsonl",
    tokens: Annotated[
        bool, Query(description="With a field `tokens` more: what `/exchanges/{exchange_id}/tokens` tells, null where it was not recorded.")
    ] = False,
) -> StreamingResponse:
    """Every exchange that fits, as one file; the filters are those of the list. A run that is under way is told as far as it is now.

    With `tokens` the file is many times larger: each rollout token by token, with what else student and self-teacher might have said.
    """
    with reading(engine) as session:
        queries.run_row(session, run_id)
    fields = {**exports.EXCHANGE_FIELDS, **exports.TOKEN_FIELDS} if tokens else exports.EXCHANGE_FIELDS
    return download(exports.exchanges(engine, run_id, filters, tokens=tokens), format, fields, f"run-{run_id}-exchanges")


@router.get("/exchanges/{exchange_id}")
def exchange(exchange_id: ExchangeId, session: Reader) -> shapes.ExchangeDetail:
    """One exchange, with its siblings' ids."""
    return exchange_queries.exchange(session, exchange_id)


@router.get("/exchanges/{exchange_id}/tokens")
def tokens(exchange_id: ExchangeId, session: Reader) -> shapes.TokensShape:
    """The rollout token by token: what student and self-teacher made of each, and what else they might have said.

    Recorded for the first questions of each step, as `recording.token_questions` says.
    """
    return token_lens.tokens(session, exchange_id)


@router.get("/exchanges/{exchange_id}/labels")
def label_list(exchange_id: ExchangeId, session: Reader) -> shapes.Listing[shapes.Label]:
    """The words on an exchange, and who put them there."""
    return shapes.Listing(items=labels.of(session, exchange_id))


@router.put("/exchanges/{exchange_id}/labels/{label}")
def put_label(exchange_id: ExchangeId, label: LabelName, engine: CurrentEngine, person: CurrentPerson) -> shapes.Listing[shapes.Label]:
    """Put a word on an exchange; one that is there already stays as it is. Answers with all of its labels."""
    with writing(engine) as session:
        labels.put(session, exchange_id, label, person.name)
        return shapes.Listing(items=labels.of(session, exchange_id))


@router.delete("/exchanges/{exchange_id}/labels/{label}", status_code=status.HTTP_204_NO_CONTENT)
def remove_label(exchange_id: ExchangeId, label: LabelName, engine: CurrentEngine) -> Response:
    """Take a word off an exchange; nothing happens where it is not on."""
    with writing(engine) as session:
        labels.remove(session, exchange_id, label)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/exchanges/{exchange_id}/comments")
def comment_list(exchange_id: ExchangeId, session: Reader, cursor: Cursor = None, limit: Limit = 200) -> shapes.Listing[shapes.Comment]:
    """What people wrote about an exchange, oldest first."""
    return comments.of(session, exchange_id, after=queries.cursor(cursor), limit=limit)


@router.post("/exchanges/{exchange_id}/comments", status_code=status.HTTP_201_CREATED)
def comment(exchange_id: ExchangeId, new: shapes.NewComment, engine: CurrentEngine, person: CurrentPerson) -> shapes.Comment:
    """Write a comment."""
    with writing(engine) as session:
        return comments.write(session, exchange_id, new.text, person.name)


@router.delete("/exchanges/{exchange_id}/comments/{comment_id}", status_code=status.HTTP_204_NO_CONTENT)
def remove_comment(
    exchange_id: ExchangeId,
    comment_id: Annotated[int, Path(description="The comment's id.", ge=1, le=2**63 - 1)],
    engine: CurrentEngine,
    person: CurrentPerson,
) -> Response:
    """Take a comment away: one's own, or anybody's as an admin."""
    with writing(engine) as session:
        comments.remove(session, exchange_id, comment_id, person)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/views")
def view_list(session: Reader) -> shapes.Listing[shapes.View]:
    """Saved views, everybody's."""
    return shapes.Listing(items=views.listing(session))


@router.post("/views", status_code=status.HTTP_201_CREATED)
def save_view(new: shapes.NewView, engine: CurrentEngine, person: CurrentPerson) -> shapes.View:
    """Save a filter of exchanges under a name. One's own view of the same name is replaced."""
    with writing(engine) as session:
        return views.save(session, new.name, new.query, person.name)


@router.delete("/views/{view_id}", status_code=status.HTTP_204_NO_CONTENT)
def remove_view(view_id: Annotated[int, Path(description="The view's id.", ge=1, le=LARGEST_ID)], engine: CurrentEngine) -> Response:
    """Take a saved view away."""
    with writing(engine) as session:
        views.remove(session, view_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/labels")
def labels_in_use(
    session: Reader,
    run: Annotated[int | None, Query(description="Only on exchanges of this run.", ge=1, le=LARGEST_ID)] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=labels.LONGEST)] = None,
    limit: Limit = 50,
) -> shapes.Listing[shapes.LabelCount]:
    """Every label in use with the number of its exchanges, in order of the alphabet."""
    return labels.counts(session, run_id=run, after=cursor, limit=limit)
