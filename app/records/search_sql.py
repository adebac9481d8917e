"""The search index's SQL, for SQLite and for PostgreSQL: the same tables, filled from the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.records.search_terms import Term

LONGEST = 50_000
"""Characters of a text that are indexed."""
COUNTED = ("round", "tutee", "tutor", "domain", "correct", "in_loss", "outcome", "effect")
"""What exchanges are counted by."""
NUMBERS = ("round", "step", "correct", "in_loss")
NAMES = ("tutee", "tutor", "domain", "outcome", "effect")
NONE = "none"
"""Stands for a name that an exchange does not have."""


def fact(name: str, value: Any) -> str:
    """A fact about an exchange as a word of its own. No text can hold such a word: it is looked for where facts are alone."""
    plain = name.replace("_", "")
    return f"{plain}{int(value)}" if isinstance(value, int) else f"{plain}{str(value).encode().hex()}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Statements of one database. `SOURCE` in them is where exchanges stand, `INDEX` where the index does."""

    make: Sequence[str]
    drop: Sequence[str]
    words: str
    """Adds exchanges of :run_id after :after up to :upto."""
    forget: str
    """Takes the same out again."""
    search: str
    """Ids that match; a condition on them and an order follow."""
    listed: str
    """The numbers in the JSON list :among."""


_COUNTS = f"""CREATE TABLE INDEX.exchange_counts (
    run_id INTEGER NOT NULL, round INTEGER NOT NULL, tutee TEXT NOT NULL, tutor TEXT NOT NULL, domain TEXT NOT NULL,
    correct INTEGER NOT NULL, in_loss INTEGER NOT NULL, outcome TEXT NOT NULL, effect TEXT NOT NULL, exchanges INTEGER NOT NULL,
    PRIMARY KEY (run_id, {", ".join(COUNTED)}))"""
_INDEXED = "CREATE TABLE INDEX.indexed (run_id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, upto BIGINT NOT NULL)"
_ABOUT = "CREATE TABLE INDEX.about (version INTEGER NOT NULL)"

COUNT = f"""INSERT INTO INDEX.exchange_counts (run_id, {", ".join(COUNTED)}, exchanges)
SELECT run_id, round, tutee, coalesce(tutor, '{NONE}'), domain, CAST(correct AS INTEGER), CAST(in_loss AS INTEGER),
    coalesce(outcome, '{NONE}'), coalesce(effect, '{NONE}'), count(*)
FROM SOURCE.exchanges WHERE run_id = :run_id AND id > :after AND id <= :upto
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ON CONFLICT (run_id, {", ".join(COUNTED)}) DO UPDATE SET exchanges = exchange_counts.exchanges + excluded.exchanges"""

BEHIND = """SELECT runs.id, CAST(runs.created_at AS TEXT) AS created_at, coalesce(indexed.upto, 0) AS upto
FROM SOURCE.runs AS runs LEFT JOIN INDEX.indexed AS indexed ON indexed.run_id = runs.id
WHERE runs.deleted_at IS NULL
AND (SELECT max(id) FROM SOURCE.exchanges WHERE exchanges.run_id = runs.id) > coalesce(indexed.upto, 0) ORDER BY runs.id"""

STALE = """SELECT count(*) FROM INDEX.indexed AS indexed
LEFT JOIN SOURCE.runs AS runs ON runs.id = indexed.run_id AND CAST(runs.created_at AS TEXT) = indexed.created_at
WHERE runs.id IS NULL"""

UPTO = """SELECT max(id) FROM
(SELECT id FROM SOURCE.exchanges WHERE run_id = :run_id AND id > :after ORDER BY id LIMIT :batch) AS batch"""

MARK = """INSERT INTO INDEX.indexed (run_id, created_at, upto) VALUES (:run_id, :created_at, :upto)
ON CONFLICT (run_id) DO UPDATE SET upto = excluded.upto"""


def _sqlite_facts() -> str:
    numbers = " || ' ' || ".join(f"'{name.replace('_', '')}' || e.{name}" for name in NUMBERS)
    names = " || ' ' || ".join(f"'{name}' || hex(coalesce(e.{name}, '{NONE}'))" for name in NAMES)
    return f"'run' || e.run_id || ' ' || {numbers} || ' ' || {names}"


_SQLITE_TEXTS = f"""{_sqlite_facts()}, substr(e.question_prompt, 1, {LONGEST}), substr(e.rollout_text, 1, {LONGEST}),
    substr(coalesce(f.raw, ''), 1, {LONGEST})
FROM SOURCE.exchanges AS e LEFT JOIN SOURCE.feedbacks AS f ON f.run_id = e.run_id AND f.seq = e.seq
WHERE e.run_id = :run_id AND e.id > :after AND e.id <= :upto ORDER BY e.id"""

SQLITE = Dialect(
    make=(
        """CREATE VIRTUAL TABLE INDEX.exchange_words USING fts5(facts, question, rollout, feedback, content='',
        tokenize='unicode61 remove_diacritics 0')""",
        _COUNTS,
        _INDEXED,
        _ABOUT,
    ),
    drop=tuple(f"DROP TABLE IF EXISTS INDEX.{name}" for name in ("exchange_words", "exchange_counts", "indexed", "about")),
    words=f"INSERT INTO INDEX.exchange_words (rowid, facts, question, rollout, feedback) SELECT e.id, {_SQLITE_TEXTS}",
    forget=f"""INSERT INTO INDEX.exchange_words (exchange_words, rowid, facts, question, rollout, feedback)
    SELECT 'delete', e.id, {_SQLITE_TEXTS}""",
    search="SELECT rowid AS id FROM exchange_words WHERE exchange_words MATCH :wanted",
    listed="SELECT value FROM json_each(:among)",
)


def _postgres_words(column: str) -> str:
    return f"to_tsvector('simple', regexp_replace(left({column}, {LONGEST}), '[^[:alnum:]]+', ' ', 'g'))"


def _postgres_facts() -> str:
    numbers = ", ".join(f"'={name.replace('_', '')}' || CAST(e.{name} AS INTEGER)" for name in NUMBERS)
    names = ", ".join(f"'={name}' || encode(convert_to(coalesce(e.{name}, '{NONE}'), 'UTF8'), 'hex')" for name in NAMES)
    return f"array_to_tsvector(ARRAY['=run' || e.run_id, {numbers}, {names}])"


POSTGRES = Dialect(
    make=(
        "CREATE SCHEMA IF NOT EXISTS search",
        "CREATE TABLE INDEX.exchange_words (id BIGINT PRIMARY KEY, run_id INTEGER NOT NULL, words TSVECTOR NOT NULL)",
        "CREATE INDEX exchange_words_words ON INDEX.exchange_words USING gin (words)",
        "CREATE INDEX exchange_words_run_id ON INDEX.exchange_words (run_id, id)",
        _COUNTS,
        _INDEXED,
        _ABOUT,
    ),
    drop=("DROP SCHEMA IF EXISTS search CASCADE",),
    words=f"""INSERT INTO INDEX.exchange_words (id, run_id, words)
    SELECT e.id, e.run_id, {_postgres_words("e.question_prompt")} || {_postgres_words("e.rollout_text")}
        || {_postgres_words("coalesce(f.raw, '')")} || {_postgres_facts()}
    FROM SOURCE.exchanges AS e LEFT JOIN SOURCE.feedbacks AS f ON f.run_id = e.run_id AND f.seq = e.seq
    WHERE e.run_id = :run_id AND e.id > :after AND e.id <= :upto""",
    forget="DELETE FROM INDEX.exchange_words WHERE run_id = :run_id AND id > :after AND id <= :upto",
    search="SELECT id FROM INDEX.exchange_words WHERE run_id = :run_id AND words @@ ({wanted})",
    listed="SELECT CAST(jsonb_array_elements_text(CAST(:among AS jsonb)) AS BIGINT)",
)


def fts5(facts: Sequence[str], terms: Sequence[Term]) -> str:
    """The search as FTS5 asks for it: letters, digits, quotes and its operators only."""

    def ask(term: Term) -> str:
        return f'"{" ".join(term.words)}"{" *" if term.prefix else ""}'

    texts = "{question rollout feedback}"
    parts = [f"facts : ({' AND '.join(facts)})", *(f"{texts} : {ask(term)}" for term in terms if not term.absent)]
    unwanted = [f"{texts} : {ask(term)}" for term in terms if term.absent]
    return f"({' AND '.join(parts)})" + "".join(f" NOT ({one})" for one in unwanted)


def tsquery(facts: Sequence[str], terms: Sequence[Term]) -> tuple[str, dict[str, str]]:
    """The search as an expression of PostgreSQL's, and what is bound in it."""
    bound = {"facts": " & ".join(f"'={one}'" for one in facts)}
    parts = ["CAST(:facts AS tsquery)"]
    for place, term in enumerate(terms):
        *before, last = term.words
        bound[f"term{place}"] = " <-> ".join([*before, f"{last}:*" if term.prefix else last])
        parts.append(f"{'!!' if term.absent else ''}to_tsquery('simple', :term{place})")
    return " && ".join(parts), bound
