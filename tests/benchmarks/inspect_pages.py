"""How long the inspector takes over a large database: the list at both ends and in the middle, filters, search, and one exchange.

    python tests/benchmarks/inspect_pages.py [--database sqlite|postgresql] [--exchanges 1000000] [--out FILE.json]

Makes 100 runs of 10,000 points and a run of a million exchanges (once: give `--home` to keep and use it again), starts a server,
and asks for each page many times, one after the other. Times are the client's, from request to last byte, on the same machine;
beside them stands the server's processor time a request, which other work on the machine does not make longer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import psutil  # noqa: E402
from sqlalchemy import func  # noqa: E402
from sqlmodel import col, select  # noqa: E402

from app.db import make_engine, migrate, reading  # noqa: E402
from app.tables import ExchangeRow  # noqa: E402
from tests.benchmarks.large_world import RARE, make_large  # noqa: E402
from tests.benchmarks.load import spread  # noqa: E402
from tests.benchmarks.load_world import serving  # noqa: E402
from tests.stores import postgres_server  # noqa: E402


def addresses(run: int, first: int, last: int, chance: random.Random) -> dict[str, list[str]]:
    """What is asked for, by kind: several addresses, so that no single answer is measured."""
    page, rows = f"/runs/{run}/exchanges", f"/runs/{run}/exchanges/rows"

    def somewhere() -> int:
        return chance.randint(first, last)

    return {
        "page, first": [page],
        "page, last": [f"{page}?before=0"],
        "page, at an exchange": [f"{page}?exchange={somewhere()}" for _ in range(20)],
        "page, one filter": [
            f"{page}?{one}" for one in ("outcome=no_match", "correct=false", "domain=protons", "tutee=student2", "round=39")
        ],
        "page, three filters": [
            f"{page}?{one}"
            for one in (
                "outcome=empty&correct=false&round=20",
                "domain=protons&tutee=student2&effect=break",
                "outcome=none&correct=true&domain=densities",
            )
        ],
        "page, break or rescue": [f"{page}?effect=break", f"{page}?effect=rescue"],
        "page, a step": [f"{page}?step={chance.randint(1, 3_000)}" for _ in range(20)],
        "page, a question": [f"{page}?question=q{chance.randint(0, 4_000)}" for _ in range(20)],
        "page, search of a common word": [f"{page}?q=density", f"{page}?q=iron"],
        "page, search of a rare word": [f"{page}?q={word}" for word in RARE],
        "page, search of a phrase": [f'{page}?q="the density of"', f'{page}?q="mass per volume"'],
        "page, search and filters": [f"{page}?q=density&outcome=no_match&correct=false&round=30", f"{page}?q=iron alloy&effect=break"],
        "page, search that finds nothing": [f"{page}?q=unfindable"],
        "rows, scrolling on": [f"{rows}?after={somewhere()}" for _ in range(20)],
        "rows, scrolling back": [f"{rows}?before={somewhere()}" for _ in range(20)],
        "rows, scrolling a search": [f"{rows}?q=density&after={somewhere()}" for _ in range(20)],
        "one exchange": [f"/exchanges/{somewhere()}" for _ in range(20)],
        "one exchange, side by side": [f"/exchanges/{key}?beside={key + 1}" for key in (somewhere() for _ in range(20))],
        "one exchange of a filter": [f"/exchanges/{somewhere()}?outcome=empty&correct=false" for _ in range(20)],
        "REST list": [f"/api/v1{page}?cursor={somewhere()}" for _ in range(20)],
        "REST facets": [f"/api/v1{page}/facets?outcome=kept"],
        "run page": [f"/runs/{run}"],
        "runs": ["/"],
    }


def measure(base: str, server: psutil.Process, asked: dict[str, list[str]], times: int) -> dict[str, Any]:
    """Each address in turn, `times` requests of a kind."""
    found: dict[str, Any] = {}
    with httpx.Client(base_url=base, timeout=120) as client:
        for kind, choices in asked.items():
            waits, size = [], 0
            for address in choices[:3]:
                client.get(address).raise_for_status()
            before = sum(server.cpu_times()[:2])
            for number in range(times):
                began = time.perf_counter()
                answer = client.get(choices[number % len(choices)])
                waits.append(time.perf_counter() - began)
                answer.raise_for_status()
                size = max(size, len(answer.content))
            used = 1000 * (sum(server.cpu_times()[:2]) - before) / times
            found[kind] = spread(waits) | {"server_cpu_ms": round(used, 1), "largest_kib": round(size / 1024, 1)}
            print(
                f"{kind:34} p50 {found[kind]['p50_ms']:8.1f} ms   p95 {found[kind]['p95_ms']:8.1f} ms   processor {used:7.1f} ms",
                flush=True,
            )
    return found


def main() -> int:
    """Make it, measure it, save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--points", type=int, default=10_000, help="of each run")
    parser.add_argument("--times", type=int, default=60, help="requests of a kind")
    parser.add_argument("--home", type=Path, help="keep the SQLite database here, or use the one that is there")
    parser.add_argument("--out", type=Path, help="where to save; nowhere without it")
    options = parser.parse_args()
    with ExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opcod-large-")))
        url = f"sqlite:///{home / 'opcod.db'}"
        if options.database == "postgresql":
            url = f"postgresql+psycopg://opcod@/postgres?host={stack.enter_context(postgres_server())}"
        engine = make_engine(url)
        migrate(engine)
        with reading(engine) as session:
            big = session.exec(select(ExchangeRow.run_id).where(col(ExchangeRow.seq) == 10**9).limit(1)).first()
        began = time.monotonic()
        if big is None:
            big = make_large(engine, exchanges=options.exchanges, runs=options.runs, points=options.points)
        made = time.monotonic() - began
        with reading(engine) as session:
            of_run = select(func.min(col(ExchangeRow.id)), func.max(col(ExchangeRow.id))).where(col(ExchangeRow.run_id) == big)
            first, last = (int(key or 0) for key in session.exec(of_run).one())
        engine.dispose()
        base, server = stack.enter_context(serving({"OPCOD_HOME": str(home), "OPCOD_DATABASE_URL": url}, 1))
        results = measure(base, psutil.Process(server.pid), addresses(big, first, last, random.Random(0)), options.times)
    result = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "python": platform.python_version(),
        },
        "settings": {key: getattr(options, key) for key in ("database", "exchanges", "runs", "points", "times")},
        "made_in_seconds": round(made, 1),
        "pages": results,
    }
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
