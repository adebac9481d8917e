"""How long the server takes over every page of a large studio, and how much a page has the browser load.

    python tests/benchmarks/pages.py [--database sqlite|postgresql] [--runs 100] [--points 10000] [--exchanges 1000000] [--out FILE.json]
    python tests/benchmarks/pages.py --table FILE.json [FILE.json]

Makes the studio (on SQLite once: give `--home` to keep it and use it again), starts a server, and asks for each page many times, one
request after the other, at addresses that differ, so that no answer kept for many readers stands for the others. Times are the
client's, from request to last byte, on the same machine; beside them stands the server's processor time a request, which other work
on the machine does not make longer. Pages and parts that were not asked for are named in the result.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import psutil  # noqa: E402
from sqlalchemy import Engine, func  # noqa: E402
from sqlmodel import col, select  # noqa: E402
from starlette.routing import compile_path  # noqa: E402

from app.db import make_engine, migrate, reading  # noqa: E402
from app.main import create_app  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.tables import DomainRow, ExchangeRow, RunRow, SweepRow  # noqa: E402
from tests.benchmarks.documents import put_table  # noqa: E402
from tests.benchmarks.large_world import RARE, make_large  # noqa: E402
from tests.benchmarks.load import spread  # noqa: E402
from tests.benchmarks.load_world import serving  # noqa: E402
from tests.people import routes_of  # noqa: E402
from tests.stores import postgres_server  # noqa: E402

LIMIT_MS, LIMIT_KB = 50, 300
STREAMS = {"/runs/live", "/runs/{run_id:int}/live"}
"""They end when the reader goes."""
QUESTIONS = 1_000
"""Of the upload."""
ASKED = 5
"""Chats and pre-flights; of one person no more than a few may wait."""
VARIANTS = 40
"""Addresses of a kind, where it has many."""
_LINKED = re.compile(r'(?:href|src)="(/static/[^"]+)"')
_IMPORTED = re.compile(r'(?:from|import)\s*\(?\s*"(\.[^"]+)"')
Addresses = Mapping[str, Sequence[str]]
"""Kind of request -> what is asked for, in turn."""


def addresses(engine: Engine, big: int) -> Addresses:
    """Every page and part of one; those of the inspector and of comparisons in the ways that they are used."""
    with reading(engine) as session:
        of_run = select(func.min(col(ExchangeRow.id)), func.max(col(ExchangeRow.id))).where(col(ExchangeRow.run_id) == big)
        first, last = (int(key or 0) for key in session.exec(of_run).one())
        ended = [key or 0 for key in session.exec(select(RunRow.id).where(col(RunRow.status) == "completed")).all()]
        domains = [key or 0 for key in session.exec(select(DomainRow.id)).all()]
        known_sweeps = [key or 0 for key in session.exec(select(SweepRow.id)).all()]
    chance = random.Random(0)

    def exchange() -> int:
        return chance.randint(first, last)

    def many(make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(VARIANTS)]

    def of_runs(part: str) -> list[str]:
        return [f"/runs/{run_id}{part}" for run_id in ended[:VARIANTS]]

    def some(number: int) -> list[str]:
        return list(map(str, chance.sample(ended, min(number, len(ended)))))

    def compared(number: int, path: str = "/compare", more: str = "") -> list[str]:
        return many(lambda: f"{path}?runs={','.join(some(number))}{more}")

    page, rows = f"/runs/{big}/exchanges", f"/runs/{big}/exchanges/rows"
    series = "series?name=student1/train/loss&name=student2/train/loss&curves=0&tallies=0&heat=0"
    return {
        "runs": ["/", *many(lambda: f"/?before={chance.randint(60, 10_000)}")],
        "runs, search": many(lambda: f"/?q=run&before={chance.randint(60, 10_000)}"),
        "runs, live part": many(lambda: f"/runs/list?before={chance.randint(60, 10_000)}"),
        "run": of_runs(""),
        "run, with the exchanges": [f"/runs/{big}"],
        **{f"run, {part}": of_runs(f"/{part}") for part in ("head", "results", "rounds", "estimate", "history", "files")},
        "charts, all at first": of_runs(f"/{series}"),
        "charts, with the exchanges": [f"/runs/{big}/{series}"],
        "report": of_runs("/report"),
        "report, beside 20": [
            f"/runs/{key}/report?compare={','.join(map(str, chance.sample(ended, min(20, len(ended)))))}" for key in ended
        ],
        "compare 2": compared(2),
        "compare 50": compared(50),
        "compare 50, by run": compared(50, more="&by=run"),
        "compare 50, scores": compared(50, "/compare/scores"),
        "compare 50, more": compared(50, "/compare/more"),
        "compare 50, one curve": compared(50, "/api/v1/compare/curves", "&name=student1/train/loss&points=200"),
        "exchanges, first": [page],
        "exchanges, last": [f"{page}?before=0"],
        "exchanges, at one": many(lambda: f"{page}?exchange={exchange()}"),
        "exchanges, one filter": [
            f"{page}?{one}" for one in ("outcome=no_match", "correct=false", "domain=protons", "tutee=student2", "round=39")
        ],
        "exchanges, three filters": [
            f"{page}?{one}"
            for one in (
                "outcome=empty&correct=false&round=20",
                "domain=protons&tutee=student2&effect=break",
                "outcome=none&correct=true&domain=densities",
            )
        ],
        "exchanges, break or rescue": [f"{page}?effect=break", f"{page}?effect=rescue"],
        "exchanges, a step": many(lambda: f"{page}?step={chance.randint(1, 3_000)}"),
        "exchanges, a question": many(lambda: f"{page}?question=q{chance.randint(0, 4_000)}"),
        "exchanges, a label": [f"{page}?label=starred", f"{page}?label=check"],
        "exchanges, a common word": [f"{page}?q=density", f"{page}?q=iron"],
        "exchanges, a rare word": [f"{page}?q={word}" for word in RARE],
        "exchanges, a phrase": [f'{page}?q="the density of"', f'{page}?q="mass per volume"'],
        "exchanges, words and filters": [f"{page}?q=density&outcome=no_match&correct=false&round=30", f"{page}?q=iron alloy&effect=break"],
        "exchanges, nothing found": [f"{page}?q=unfindable"],
        "list, scrolling on": many(lambda: f"{rows}?after={exchange()}"),
        "list, scrolling back": many(lambda: f"{rows}?before={exchange()}"),
        "list, scrolling a search": many(lambda: f"{rows}?q=density&after={exchange()}"),
        "list, looking on for a phrase": many(lambda: f'{rows}?q="mass per volume"&after={exchange()}'),
        "exchange": many(lambda: f"/exchanges/{exchange()}"),
        "exchange, side by side": [f"/exchanges/{key}?beside={key + 1}" for key in (exchange() for _ in range(VARIANTS))],
        "exchange, of a filter": many(lambda: f"/exchanges/{exchange()}?outcome=empty&correct=false"),
        "exchange, replays": many(lambda: f"/exchanges/{exchange()}/replays"),
        "exchange, list of replays": many(lambda: f"/exchanges/{exchange()}/replays/list"),
        "exchanges by REST": many(lambda: f"/api/v1{page}?cursor={exchange()}"),
        "counts by REST": [f"/api/v1{page}/facets?outcome=kept"],
        "new experiment": ["/experiments/new?preset=paper", "/experiments/new?preset=demo", f"/experiments/new?from={big}"],
        "sweeps": ["/sweeps"],
        "sweeps, live part": ["/sweeps/list"],
        "sweep": [f"/sweeps/{key}" for key in known_sweeps],
        "sweep, live part": [f"/sweeps/{key}/body" for key in known_sweeps],
        "new sweep": ["/sweeps/new"],
        "domains": ["/domains"],
        "domain": [f"/domains/{key}" for key in domains],
        "students": ["/students"],
        "queue": ["/queue"],
        "queue, live part": ["/queue/list"],
        "workers": ["/workers"],
        "workers, live part": ["/workers/list"],
        "storage": ["/storage"],
        "storage, live part": ["/storage/list"],
        "settings": ["/settings"],
        "settings, webhooks": ["/settings/webhooks"],
        "settings, tokens": ["/settings/tokens"],
        "settings, audit": ["/settings/audit"],
        "settings, studio": ["/settings/studio"],
        "method": ["/docs/method"],
        "API": ["/api/v1/docs"],
    }


def brought(base: str) -> Addresses:
    """The pages of what people bring, and of what they ask a worker for: brought and asked for here, where that is not done yet."""
    api = "/api/v1"
    with httpx.Client(base_url=base, timeout=120) as client:

        def items(what: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get(f"{api}/{what}").raise_for_status().json()["items"]
            return found

        def newest(what: str) -> int:
            return int(items(what)[0]["id"])

        if not items("uploads"):
            rows = [{"question": f"What is {number} plus {number}?", "answer": str(2 * number)} for number in range(QUESTIONS)]
            lines = "".join(f"{json.dumps(row)}\n" for row in rows)
            client.post(f"{api}/uploads", files={"train": ("sums.jsonl", lines.encode())}).raise_for_status()
        if not items("specialists"):
            base_student = client.post(f"{api}/students", json={"name": "base", "model": "demo:novice"}).raise_for_status().json()["id"]
            made = {"name": "made", "model": "demo:novice", "domain_id": newest("domains")}
            client.post(f"{api}/specialists", json=made).raise_for_status()
            for number in range(ASKED):
                asked = {"students": [base_student], "question": f"What is {number} plus {number}?"}
                client.post(f"{api}/chats", json=asked).raise_for_status()
                client.post(f"{api}/preflights", json={"preset": "tiny", "config": {"seed": number}}).raise_for_status()
        upload, student, specialist, preflight = map(newest, ("uploads", "students", "specialists", "preflights"))
        domain = newest("domains")
    return {
        "upload": [f"/uploads/{upload}"],
        "student": [f"/students/{student}"],
        "students, choices": ["/students/choices"],
        "new student": ["/students/new"],
        "new specialist": ["/specialists/new"],
        "specialist": [f"/specialists/{specialist}"],
        "specialist, live part": [f"/specialists/{specialist}/live"],
        "chats": ["/chats"],
        "chats, live part": ["/chats/list"],
        "chats, a question": [f"/chats/question?domain_id={domain}"],
        "pre-flights": ["/preflights"],
        "pre-flight": [f"/preflights/{preflight}"],
        "pre-flight, live part": [f"/preflights/{preflight}/body"],
        "pre-flight, beside the form": [f"/preflights/{preflight}/panel"],
    }


def measure(base: str, server: psutil.Process, asked: Addresses, times: int) -> dict[str, Any]:
    """Each kind's addresses in turn, `times` requests of it after a first one, which is told apart: a server that has just started
    reads templates, configurations and counts."""
    found: dict[str, Any] = {}
    with httpx.Client(base_url=base, timeout=120) as client:
        for kind, choices in asked.items():
            began = time.perf_counter()
            client.get(choices[-1]).raise_for_status()
            first = time.perf_counter() - began
            waits, size, text = [], 0, ""
            before = sum(server.cpu_times()[:2])
            for number in range(times):
                began = time.perf_counter()
                answer = client.get(choices[number % len(choices)])
                waits.append(time.perf_counter() - began)
                answer.raise_for_status()
                size, text = max(size, len(answer.content)), answer.text
            used = 1000 * (sum(server.cpu_times()[:2]) - before) / times
            found[kind] = spread(waits) | {"server_cpu_ms": round(used, 1), "largest_kb": round(size / 1000, 1)}
            found[kind]["first_ms"] = round(1000 * first, 1)
            if text.startswith("<!doctype html>"):
                found[kind]["assets_kb"] = round(sum(map(compressed, assets(text))) / 1000, 1)
            print(f"{kind:32} p50 {found[kind]['p50_ms']:7.1f}  p95 {found[kind]['p95_ms']:7.1f}  processor {used:7.1f} ms", flush=True)
    return found


def assets(page: str) -> set[str]:
    """The files under static/ that a page's HTML has the browser load, those that its scripts import with them."""
    found: set[str] = set()
    waiting = [urlsplit(address).path for address in _LINKED.findall(page)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.endswith(".js"):
                text = (ROOT / path.lstrip("/")).read_text(encoding="utf-8")
                waiting += [urljoin(path, name) for name in _IMPORTED.findall(text)]
    return found


@cache
def compressed(path: str) -> int:
    """Bytes of a static file as gzip sends it."""
    return len(gzip.compress((ROOT / path.lstrip("/")).read_bytes(), 6))


def not_asked(asked: Addresses) -> list[str]:
    """Pages and parts that no address above is of."""
    with tempfile.TemporaryDirectory() as home:
        app = create_app(Settings(home=Path(home)))
    pages = {path for method, path in routes_of(app) if method == "GET" and not path.startswith("/api/")}
    paths = [urlsplit(address).path for choices in asked.values() for address in choices[:1]]
    return sorted(page for page in pages - STREAMS if not any(compile_path(page)[0].match(path) for path in paths))


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Results, one of each database, as a table in Markdown; what is over the limit is bold."""

    def cell(value: float, limit: float) -> str:
        return f"**{value:.0f}**" if value > limit else f"{value:.0f}"

    heads = [name for result in results for name in (f"{result['settings']['database']}: p50", "p95", "processor")]
    lines = [f"| ms | {' | '.join(heads)} | HTML, kB | assets, kB |", f"|---|{'--:|' * (len(heads) + 2)}"]
    for kind in results[0]["pages"]:
        ones = [result["pages"][kind] for result in results]
        cells = [cell(one[name], LIMIT_MS) for one in ones for name in ("p50_ms", "p95_ms", "server_cpu_ms")]
        loaded = max(one.get("assets_kb", 0) for one in ones)
        size = max(one["largest_kb"] for one in ones)
        lines.append(f"| {kind} | {' | '.join(cells)} | {size:.0f} | {cell(loaded, LIMIT_KB) if loaded else ''} |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Make the studio and measure it."""
    with ExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opcod-large-")))
        url = f"sqlite:///{home / 'opcod.db'}"
        if options.url:
            url = options.url
        elif options.database == "postgresql":
            url = f"postgresql+psycopg://opcod@/postgres?host={stack.enter_context(postgres_server())}"
        engine = make_engine(url)
        migrate(engine)
        with reading(engine) as session:
            big = session.exec(select(ExchangeRow.run_id).where(col(ExchangeRow.seq) == 10**9).limit(1)).first()
        began = time.monotonic()
        if big is None:
            big = make_large(engine, exchanges=options.exchanges, runs=options.runs, points=options.points)
        made = time.monotonic() - began
        asked = addresses(engine, big)
        options.database = "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        engine.dispose()
        base, server = stack.enter_context(serving({"OPCOD_HOME": str(home), "OPCOD_DATABASE_URL": url}, 1))
        asked = {**asked, **brought(base)}
        if options.only:
            asked = {kind: choices for kind, choices in asked.items() if re.search(options.only, kind)}
        pages = measure(base, psutil.Process(server.pid), asked, options.times)
    return {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "python": platform.python_version(),
        },
        "settings": {key: getattr(options, key) for key in ("database", "exchanges", "runs", "points", "times")},
        "made_in_seconds": round(made, 1),
        "over_the_limit": [kind for kind, one in pages.items() if one["p95_ms"] > LIMIT_MS or one.get("assets_kb", 0) > LIMIT_KB],
        "not_asked": not_asked(asked),
        "pages": pages,
    }


def main() -> int:
    """Make it, measure it, save it; or show what was saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--points", type=int, default=10_000, help="of each of a run's two curves")
    parser.add_argument("--times", type=int, default=VARIANTS, help="requests of a kind")
    parser.add_argument("--only", help="kinds that have this in their name (a regular expression)")
    parser.add_argument("--home", type=Path, help="keep the SQLite database here, or use the one that is there")
    parser.add_argument("--url", help="another database: an empty one, which is filled, or one that this has filled")
    parser.add_argument("--out", type=Path, help="where to save; nowhere without it")
    parser.add_argument("--table", type=Path, nargs="+", help="measure nothing: print the table of saved results")
    parser.add_argument("--into", type=Path, help="with --table: the document whose table it takes the place of")
    options = parser.parse_args()
    if options.table:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in options.table]
        if options.into:
            put_table(options.into, "| ms |", table(results).splitlines())
        else:
            print(table(results))
        return 0
    result = run(options)
    print(table([result]))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
