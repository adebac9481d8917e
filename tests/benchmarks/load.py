"""Reads the service as 200 people at once while four runs write 500 exchanges a second, and measures what they wait for.

    python tests/benchmarks/load.py [--database sqlite|postgresql] [--seconds 600] [--processes 1]

A quarter has the runs list open, a quarter a run's page, a quarter leafs through exchanges, and a quarter follows a run by REST.
Pages behave as in the browser: their live stream says what is new, and the parts that listen for it are asked for again,
one request at a time for each part. The server, each writer and this driver are processes of one machine, so that its
figures are a lower bound for a server that has a machine of its own. Delivery counts from a batch's commit to the message at the reader.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import queue
import random
import re
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402

from tests.benchmarks.load_world import Commit, World, open_files, world  # noqa: E402

WARM_UP_SECONDS = 5.0
CURVES = [
    f"s1/{name}"
    for name in (
        "train/loss",
        "train/accuracy",
        "train/entropy",
        "feedback/kept_fraction",
        "self_distillation/divergence_mean",
        "throughput/rollout_tokens_per_s",
        "memory/peak_bytes",
    )
]
"""What a run's page draws."""
_SEQ = re.compile(rb'"seq": (\d+)')
_CURSOR = re.compile(r"/live\?after=(\d+)")
_EXCHANGE = re.compile(r'href="(/exchanges/\d+[^"]*)"')
_NEXT = re.compile(r'href="([^"]+)"[^>]*data-key="next-page"')
_EVENT = re.compile(r"event: (\w+)")
_DATA = re.compile(r"data: (\d+)")


class Measured:
    """Everything that readers saw."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, int] = defaultdict(int)
        self.followed: list[tuple[int, int, float]] = []
        """(run, seq, time) of the last event of each chunk that a REST follower got."""
        self.messages: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
        """(run, reader) -> (arrival number, time) of each message that a page's stream got."""
        self.lags: list[float] = []

    @property
    def warm(self) -> bool:
        return time.monotonic() - self.began > WARM_UP_SECONDS


class Reader:
    """One person with one browser."""

    def __init__(self, session: aiohttp.ClientSession, measured: Measured, number: int, runs: Sequence[int]) -> None:
        self.session, self.measured, self.number = session, measured, number
        self.random = random.Random(number)
        self.run = runs[number % len(runs)]

    async def get(self, kind: str, path: str) -> str:
        """A page or a part of one; its time counts under `kind`."""
        began = time.perf_counter()
        try:
            async with self.session.get(path, headers={"HX-Request": "true"} if kind.endswith("part") else None) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.measured.errors[f"{kind}: {type(error).__name__}"] += 1
            await asyncio.sleep(1)
            return ""
        if self.measured.warm:
            self.measured.waits[kind].append(time.perf_counter() - began)
        if answer.status != 200:
            self.measured.errors[f"{kind}: {answer.status}"] += 1
        return text

    async def think(self, low: float, high: float) -> None:
        await asyncio.sleep(self.random.uniform(low, high))

    async def stream(self, path: str) -> Any:
        """Names of a stream's messages, by chunk, for ever; connects again when it is cut."""
        while True:
            try:
                async with self.session.get(path, timeout=aiohttp.ClientTimeout(total=None, sock_read=60)) as answer:
                    async for chunk, _ in answer.content.iter_chunks():
                        yield chunk
            except (aiohttp.ClientError, TimeoutError) as error:
                self.measured.errors[f"stream: {type(error).__name__}"] += 1
            await asyncio.sleep(1)


class Part:
    """A part of a page that is asked for again when it is told of news: one request at a time, the last wish is kept (hx-sync)."""

    def __init__(self, reader: Reader, kind: str, path: str) -> None:
        self._reader, self._kind, self._path = reader, kind, path
        self._busy = self._again = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.cursor = -1
        self.widths: dict[str, int] = dict.fromkeys(("curves", "tallies", "heat"), 0)

    def ask(self) -> None:
        if self._busy:
            self._again = True
            return
        self._busy = True
        task = asyncio.create_task(self._ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            if self._kind != "series":
                await self._reader.get(self._kind, self._path)
                continue
            query = urlencode({"after": self.cursor, "name": CURVES, **self.widths}, doseq=True)
            text = await self._reader.get("series, whole" if self.cursor < 0 else "series", f"{self._path}?{query}")
            if text.startswith("{"):
                part = json.loads(text)
                self.cursor = part["cursor"]
                self.widths |= {name: part[name]["width"] for name in self.widths if name in part}
        self._busy = False


async def watch_list(reader: Reader) -> None:
    """The runs list, left open."""
    page = await reader.get("runs list", "/")
    cursor = _CURSOR.search(page)
    table = Part(reader, "runs list, part", "/runs/list")
    async for _ in reader.stream(f"/runs/live?after={cursor.group(1) if cursor else 0}"):
        table.ask()


async def watch_run(reader: Reader) -> None:
    """A run's page, left open."""
    base = f"/runs/{reader.run}"
    page = await reader.get("run page", base)
    cursor = _CURSOR.search(page)
    parts = {name: Part(reader, f"run page, {name} part", f"{base}/{name}") for name in ("head", "results", "rounds")}
    series = Part(reader, "series", f"{base}/series")
    series.ask()
    hears = {"head": ("head", "results", "rounds"), "step": ("head",), "results": ("head", "results", "rounds")}
    seen = reader.measured.messages[reader.run, reader.number]
    async for chunk in reader.stream(f"{base}/live?after={cursor.group(1) if cursor else 0}"):
        text = chunk.decode()
        names = set(_EVENT.findall(text))
        for name in {part for heard in names for part in hears.get(heard, ())}:
            parts[name].ask()
        if names & {"step", "results", "exchanges"}:
            series.ask()
        places = _DATA.findall(text)
        if places:
            seen.append((int(places[-1]), time.time()))


async def leaf(reader: Reader) -> None:
    """Exchanges: a list, some of its entries, the next page, now and then from the start with a filter."""
    while True:
        path = f"/runs/{reader.run}/exchanges" + reader.random.choice(["", "?correct=no", "?outcome=kept", "?outcome=no_match&correct=yes"])
        for _ in range(4):
            text = await reader.get("exchanges list", path)
            await reader.think(1, 3)
            for link in reader.random.sample(found := _EXCHANGE.findall(text), min(2, len(found))):
                await reader.get("exchange", link.replace("&amp;", "&"))
                await reader.think(1, 3)
            following = _NEXT.search(text)
            if following is None:
                break
            path = following.group(1).replace("&amp;", "&")
            path = path if path.startswith("/") else f"/runs/{reader.run}/exchanges{path}"


async def follow(reader: Reader) -> None:
    """A run's events by REST, as a program reads them."""
    cursor = _CURSOR.search(await reader.get("run page", f"/runs/{reader.run}"))
    async for chunk in reader.stream(f"/api/v1/runs/{reader.run}/events?after={cursor.group(1) if cursor else 0}"):
        seqs = _SEQ.findall(chunk)
        if seqs:
            reader.measured.followed.append((reader.run, int(seqs[-1]), time.time()))


async def read(place: World, readers: int, seconds: float) -> Measured:
    """Let `readers` loose for so long."""
    measured = Measured()
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(place.url, timeout=timeout, connector=connector) as session:
        kinds = (watch_list, watch_run, leaf, follow)
        people = [Reader(session, measured, number // len(kinds), place.run_ids) for number in range(readers)]

        async def come(number: int) -> None:
            await asyncio.sleep(number / readers * WARM_UP_SECONDS / 2)
            await kinds[number % len(kinds)](people[number])

        tasks = [asyncio.create_task(come(number)) for number in range(readers)]
        end = time.monotonic() + WARM_UP_SECONDS + seconds
        while time.monotonic() < end:
            before = time.perf_counter()
            await asyncio.sleep(0.1)
            measured.lags.append(time.perf_counter() - before - 0.1)
            if len(measured.lags) % 20 == 0:
                place.sample()
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return measured


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Count, and milliseconds that half, 95 % and 99 % do not exceed."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {"count": len(ordered), "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "max_ms": at(1.0)}


def delivery(commits: Sequence[Commit], measured: Measured) -> dict[str, Any]:
    """From each batch's commit to the first message at or after its last event, at every reader."""
    told = {(commit.run_id, commit.seq): commit.at for commit in commits}
    followed = [at - told[run, seq] for run, seq, at in measured.followed if (run, seq) in told]
    pages = []
    for (run, _), messages in measured.messages.items():
        heard = iter(messages)
        message = next(heard, None)
        for commit in (commit for commit in commits if commit.run_id == run and message is not None and commit.at > messages[0][1]):
            while message is not None and message[0] < commit.arrival:
                message = next(heard, None)
            if message is None:
                break
            pages.append(message[1] - commit.at)
    return {"REST events": spread(followed), "page's stream": spread(pages)}


def report(options: argparse.Namespace, place: World, measured: Measured, commits: Sequence[Commit], cpu: float) -> dict[str, Any]:
    """What is saved."""
    span = max(commit.at for commit in commits) - min(commit.at for commit in commits)
    batches = len(commits) * options.rate / options.writers / 5
    memory = [round(value / 2**20) for value in place.memory]
    every = [wait for waits in measured.waits.values() for wait in waits]
    return {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "python": platform.python_version(),
        },
        "settings": {
            key: getattr(options, key) for key in ("database", "seconds", "processes", "readers", "writers", "rate", "history", "past")
        },
        "written": {"exchanges_per_second": round(batches / span, 1), "batches": len(commits)},
        "requests": {"per_second": round(len(every) / options.seconds, 1), "all": spread(every)}
        | {kind: spread(waits) for kind, waits in sorted(measured.waits.items())},
        "delivery": delivery(commits, measured),
        "errors": dict(measured.errors),
        "server": {
            "memory_mib": {"first": memory[0], "last": memory[-1], "most": max(memory)},
            "cores_used": round(cpu / (options.seconds + WARM_UP_SECONDS), 2),
        },
        "driver": {"event_loop_lag_p95_ms": spread(measured.lags)["p95_ms"], "mean_ms": round(1000 * statistics.fmean(measured.lags), 1)},
    }


def main() -> int:
    """Run it, print it, save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=1, help="server processes")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=500, help="exchanges a second in all")
    parser.add_argument("--history", type=int, default=5_000, help="exchanges that each run has at the start")
    parser.add_argument("--past", type=int, default=60, help="runs that have ended")
    parser.add_argument("--out", type=Path, help="where to save; nowhere without it")
    options = parser.parse_args()
    open_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers and writers end too
    arguments = {key: getattr(options, key) for key in ("processes", "writers", "rate", "history", "past")}
    with world(options.database, **arguments) as place:
        before = place.cpu_seconds()
        measured = asyncio.run(read(place, options.readers, options.seconds))
        cpu = place.cpu_seconds() - before
        commits = []
        while True:
            try:
                commits.append(place.told.get(timeout=0.2))
            except queue.Empty:
                break
            if len(commits) > 10 and commits[-1].at > time.time() - 0.1:
                break
    result = report(options, place, measured, commits, cpu)
    print(json.dumps(result, indent=1))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
