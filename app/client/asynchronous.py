"""The client that awaits. `synchronous.py` is made from it: after a change, `python -m app.client.generate`."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import anyio
import httpx

from app import shapes
from app.access.person import Scope
from app.access.shapes import Me, NewTokenShape, TokenShape
from app.client.errors import ServiceError, no_answer, not_ours, refusal
from app.client.sse import EventReader
from app.domains.shapes import Upload, UploadCheck
from app.experiments.preflight_shapes import ForetoldRun, PreflightJob
from app.library.shapes import Chat, Specialist
from app.records import chart_shapes
from app.records.comparison_shapes import Comparison, Overlay
from app.webhooks.events import WebhookEvent
from app.webhooks.shapes import Delivery, DeliveryTry, NewWebhookShape, Webhook
from opcod.estimation.figures import Estimate

API = "/api/v1"
DEFAULT_URL = "http://127.0.0.1:8000"
ENDED = ("completed", "stopped", "failed")
PAGE = 200
RECONNECT_SECONDS = 1.0
"""Pause before a broken stream is opened again."""
SILENCE_SECONDS = 60.0
"""A stream that says nothing for so long, not even that it lives, is broken."""

POLL_SECONDS = 2.0
"""How often a sweep is asked after."""

S = TypeVar("S", bound=shapes.Shape)
Filters = Mapping[str, Any]


class AsyncClient:
    """Talks to one server. Every method raises `ServiceError` with the server's own words.

    Args:
        url: the server's address; `OPCOD_URL`, or this machine's port 8000, where it is not given.
        token: an API token; `OPCOD_TOKEN` where it is not given, none where neither is.
        timeout: seconds that an answer may take. Streams and exports may last longer.
        transport: for tests, what carries requests instead of the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("OPCOD_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("OPCOD_TOKEN")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.AsyncClient(base_url=self.url + API, timeout=timeout, headers=headers, transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    # ---------- plain requests ----------

    async def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Plain data of any path's answer, for what has no method here; None where the answer is empty."""
        response = await self._send(method, path, **arguments)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise not_ours(self.url) from None

    async def pages(self, path: str, parameters: Filters | None = None, *, limit: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Items of any list as plain data, page by page; at most `limit`."""
        wanted = {name: value for name, value in (parameters or {}).items() if value is not None and value != ()}
        left = limit
        while left is None or left > 0:
            page = await self.request("GET", path, params={**wanted, "limit": PAGE if left is None else min(left, PAGE)})
            for item in page["items"][:left]:
                yield item
            left = None if left is None else left - len(page["items"])
            wanted["cursor"] = page["next_cursor"]
            if not page["items"] or page["next_cursor"] is None:
                return

    async def items(self, path: str, shape: type[S], parameters: Filters | None = None, *, limit: int | None = None) -> AsyncIterator[S]:
        """Items of any list as `shape`."""
        async for item in self.pages(path, parameters, limit=limit):
            yield shape.model_validate(item)

    async def ready(self) -> bool:
        """Whether the server answers."""
        try:
            response = await self._http.get("/health", timeout=2.0)
        except httpx.HTTPError:
            return False
        return response.is_success

    # ---------- experiments ----------

    async def check(self, experiment: Mapping[str, Any]) -> shapes.Checked:
        """Validate an experiment and store nothing; its whole configuration."""
        return shapes.Checked.model_validate(await self.request("POST", "/experiments", json=dict(experiment), params={"dry_run": True}))

    async def estimate(self, experiment: Mapping[str, Any]) -> Estimate:
        """What an experiment of ``{"name"?, "preset"?, "config"?}`` will take, with the uncertainty of that."""
        return Estimate.model_validate(await self.request("POST", "/experiments:estimate", json=dict(experiment)))

    async def preflight(self, experiment: Mapping[str, Any], *, size: Mapping[str, int] | None = None) -> PreflightJob:
        """Let a worker look at an experiment of ``{"name"?, "preset"?, "config"?}``. It waits for one then."""
        body = dict(experiment) | ({"size": dict(size)} if size else {})
        return PreflightJob.model_validate(await self.request("POST", "/preflights", json=body))

    def preflights(self, *, limit: int | None = None) -> AsyncIterator[PreflightJob]:
        """Pre-flights, the newest first, without what they found."""
        return self.items("/preflights", PreflightJob, limit=limit)

    async def wait_for_preflight(self, preflight_id: int, *, timeout: float | None = None) -> PreflightJob:
        """The pre-flight once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found = PreflightJob.model_validate(await self.request("GET", f"/preflights/{preflight_id}"))
            if found.ended_at is not None:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Pre-flight {preflight_id} did not end in time.")
            await anyio.sleep(1.0)

    async def foretold(self, preflight_id: int) -> list[ForetoldRun]:
        """What a pre-flight foretold, beside what the runs recorded that were launched from its settings."""
        found = await self.request("GET", f"/preflights/{preflight_id}/runs")
        return [ForetoldRun.model_validate(item) for item in found["items"]]

    async def create_experiment(self, experiment: Mapping[str, Any], *, idempotency_key: str | None = None) -> shapes.Experiment:
        """Make an experiment of ``{"name"?, "preset"?, "config"?}``; the same key again makes no second one."""
        made = await self.request("POST", "/experiments", json=dict(experiment), headers=_keyed(idempotency_key))
        return shapes.Experiment.model_validate(made)

    async def experiment(self, experiment_id: int) -> shapes.Experiment:
        """One experiment."""
        return shapes.Experiment.model_validate(await self.request("GET", f"/experiments/{experiment_id}"))

    def experiments(self, *, limit: int | None = None) -> AsyncIterator[shapes.Experiment]:
        """Experiments, newest first."""
        return self.items("/experiments", shapes.Experiment, limit=limit)

    async def start(self, experiment_id: int, *, name: str | None = None, idempotency_key: str | None = None) -> shapes.Run:
        """Queue a run of an experiment; the same key again makes no second one."""
        body = {"name": name} if name is not None else {}
        made = await self.request("POST", f"/experiments/{experiment_id}/runs", json=body, headers=_keyed(idempotency_key))
        return shapes.Run.model_validate(made)

    async def launch(self, experiment: Mapping[str, Any]) -> shapes.Run:
        """Create an experiment and start a run of it."""
        return await self.start((await self.create_experiment(experiment)).id)

    # ---------- runs ----------

    async def run(self, run_id: int) -> shapes.Run:
        """One run."""
        return shapes.Run.model_validate(await self.request("GET", f"/runs/{run_id}"))

    async def run_estimate(self, run_id: int) -> shapes.RunEstimate:
        """What a run was expected to take, and what it took."""
        return shapes.RunEstimate.model_validate(await self.request("GET", f"/runs/{run_id}/estimate"))

    def runs(self, *, limit: int | None = None, **filters: Any) -> AsyncIterator[shapes.Run]:
        """Runs, newest first; `filters` are those of `GET /runs`, such as ``status="running"``."""
        return self.items("/runs", shapes.Run, filters, limit=limit)

    async def stop(self, run_id: int) -> shapes.Run:
        """Stop a run at its next step; it can be resumed."""
        return await self._act(run_id, "stop")

    async def resume(self, run_id: int) -> shapes.Run:
        """Queue a run again; it goes on from its last checkpoint."""
        return await self._act(run_id, "resume")

    async def pause(self, run_id: int) -> shapes.Run:
        """Pause a run at its next step; its worker is free for others meanwhile."""
        return await self._act(run_id, "pause")

    async def retry(self, run_id: int, *, afresh: bool = False) -> shapes.Run:
        """Do an ended run over: from its last checkpoint, or afresh as a new run. Gives the run that waits."""
        return await self._act(run_id, "retry", {"start": "afresh" if afresh else "checkpoint"})

    async def clone(
        self, run_id: int, *, config: Mapping[str, Any] | None = None, name: str | None = None, idempotency_key: str | None = None
    ) -> shapes.Run:
        """A new run with the same settings, or with those of `config` that differ."""
        body = {key: value for key, value in (("config", config), ("name", name)) if value is not None}
        made = await self.request("POST", f"/runs/{run_id}:clone", json=body, headers=_keyed(idempotency_key))
        return shapes.Run.model_validate(made)

    async def move(self, run_id: int, position: int) -> shapes.Run:
        """Put a waiting run at a place in the queue; 1 is next."""
        return await self._act(run_id, "move", {"position": position})

    async def change(self, run_id: int, **values: Any) -> shapes.Run:
        """Set `name`, `tags`, `archived` or `priority`; what is left out stays."""
        return shapes.Run.model_validate(await self.request("PATCH", f"/runs/{run_id}", json=values))

    async def delete(self, run_id: int) -> None:
        """Delete an ended run with all that it left behind."""
        await self.request("DELETE", f"/runs/{run_id}")

    async def queue(self) -> list[shapes.Run]:
        """Runs that wait, the next one first."""
        return [item async for item in self.items("/queue", shapes.Run)]

    async def transitions(self, run_id: int) -> list[shapes.Transition]:
        """Every change of a run's status, oldest first."""
        return [item async for item in self.items(f"/runs/{run_id}/transitions", shapes.Transition)]

    async def wait(self, run_id: int, *, timeout: float | None = None, until: Sequence[str] = ENDED) -> shapes.Run:
        """The run once its status is one of `until`. A server that goes away meanwhile is waited for.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        async for _ in self.follow(run_id, kinds=["status_changed"], until=until, deadline=deadline):
            pass
        return await self.run(run_id)

    async def follow(
        self,
        run_id: int,
        *,
        after: int = 0,
        kinds: Sequence[str] = (),
        until: Sequence[str] = ENDED,
        deadline: float | None = None,
    ) -> AsyncIterator[shapes.StreamEvent]:
        """What happens in a run, from arrival number `after` on, until it has ended (or reached one of `until`).

        A stream that breaks is opened again after the last event that came, so that nothing is missed
        and nothing comes twice. `deadline` is a time of `time.monotonic`.

        Raises:
            ServiceError: the server refuses, as for a run that is not there. One that does not answer is waited for.
            TimeoutError: the deadline has passed.
        """
        wanted = [*kinds, "status_changed"] if kinds else []
        while True:
            with suppress(httpx.TransportError):  # gone for a while: open it again
                async with self._http.stream(
                    "GET",
                    f"/runs/{run_id}/events",
                    params={"kind": wanted} if wanted else {},
                    headers={"Accept": "text/event-stream", "Last-Event-ID": str(after)},
                    timeout=httpx.Timeout(10.0, read=_patience(deadline)),
                ) as response:
                    if response.is_error and response.status_code != 503:
                        await response.aread()
                        raise refusal(response)
                    reader = EventReader()
                    async for line in response.aiter_lines():
                        if deadline is not None and time.monotonic() > deadline:
                            break
                        event = reader.take(line)
                        if event is None:
                            continue
                        last = event.kind == "status_changed" and await self._settled(run_id, event, until)
                        after = event.id
                        if not kinds or event.kind in kinds:
                            yield event
                        if last:
                            return
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Run {run_id} did not come so far in time.")
            await anyio.sleep(RECONNECT_SECONDS)

    async def _settled(self, run_id: int, event: shapes.StreamEvent, until: Sequence[str]) -> bool:
        """Whether this change of status is the run's last for now: one that came to an end may have been resumed since."""
        if event.data.get("to") not in (*until, *ENDED):
            return False
        response = await self._http.get(f"/runs/{run_id}/transitions", params={"order": "newest", "limit": 1})
        if response.status_code == 503:
            raise httpx.ReadError("the server is not ready", request=response.request)  # like a broken stream: tried again
        if response.is_error:
            raise refusal(response)
        return shapes.Transition.model_validate(response.json()["items"][0]).at <= event.at

    # ---------- records ----------

    def metrics(
        self, run_id: int, *, name: str | Sequence[str] = (), after: str | None = None, limit: int | None = None
    ) -> AsyncIterator[shapes.MetricPoint]:
        """Points in order of arrival; ``student1/*`` stands for all names that begin so."""
        return self.items(f"/runs/{run_id}/metrics", shapes.MetricPoint, {"name": name, "after": after}, limit=limit)

    async def metric_names(self, run_id: int) -> list[str]:
        """The names of every curve that the run has."""
        found: list[str] = (await self.request("GET", f"/runs/{run_id}/metric-names"))["items"]
        return found

    def exchanges(self, run_id: int, *, limit: int | None = None, **filters: Any) -> AsyncIterator[shapes.Exchange]:
        """Exchanges in order of arrival; `filters` are those of `GET /runs/{id}/exchanges`, such as ``outcome="kept"``."""
        return self.items(f"/runs/{run_id}/exchanges", shapes.Exchange, filters, limit=limit)

    async def exchange(self, exchange_id: int) -> shapes.ExchangeDetail:
        """One exchange, with its siblings' ids."""
        return shapes.ExchangeDetail.model_validate(await self.request("GET", f"/exchanges/{exchange_id}"))

    async def facets(self, run_id: int, **filters: Any) -> shapes.Facets:
        """How many exchanges fit, and how many would with another value of each filter."""
        return shapes.Facets.model_validate(await self.request("GET", f"/runs/{run_id}/exchanges/facets", params=filters))

    async def comments(self, exchange_id: int) -> list[shapes.Comment]:
        """What people wrote about an exchange, oldest first."""
        found = await self.request("GET", f"/exchanges/{exchange_id}/comments", params={"limit": 500})
        return [shapes.Comment.model_validate(item) for item in found["items"]]

    async def comment(self, exchange_id: int, text: str) -> shapes.Comment:
        """Write a comment."""
        return shapes.Comment.model_validate(await self.request("POST", f"/exchanges/{exchange_id}/comments", json={"text": text}))

    async def remove_comment(self, exchange_id: int, comment_id: int) -> None:
        """Take a comment away."""
        await self.request("DELETE", f"/exchanges/{exchange_id}/comments/{comment_id}")

    async def views(self) -> list[shapes.View]:
        """Saved filters of exchanges, everybody's."""
        return [shapes.View.model_validate(item) for item in (await self.request("GET", "/views"))["items"]]

    async def save_view(self, name: str, query: str) -> shapes.View:
        """Save a filter under a name; `query` is as in the inspector's address."""
        return shapes.View.model_validate(await self.request("POST", "/views", json={"name": name, "query": query}))

    async def remove_view(self, view_id: int) -> None:
        """Take a saved view away."""
        await self.request("DELETE", f"/views/{view_id}")

    async def rollout_tokens(self, exchange_id: int) -> shapes.TokensShape:
        """The rollout token by token, where it was recorded so."""
        return shapes.TokensShape.model_validate(await self.request("GET", f"/exchanges/{exchange_id}/tokens"))

    async def replay(self, exchange_id: int, **asked: Any) -> shapes.Replay:
        """Ask the exchange's self-teacher again: `feedback`, `own_solution`, `weights`, `samples`. It waits for a worker then."""
        return shapes.Replay.model_validate(await self.request("POST", f"/exchanges/{exchange_id}:replay", json=asked))

    def replays(self, exchange_id: int, *, limit: int | None = None) -> AsyncIterator[shapes.Replay]:
        """The exchange's replays, the newest first."""
        return self.items(f"/exchanges/{exchange_id}/replays", shapes.Replay, limit=limit)

    async def wait_for_replay(self, replay_id: int, *, timeout: float | None = None) -> shapes.Replay:
        """The replay once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return await self._ended(f"/replays/{replay_id}", shapes.Replay, timeout)

    async def labels(self, exchange_id: int) -> list[shapes.Label]:
        """The words on an exchange, and who put them there."""
        return _labels(await self.request("GET", f"/exchanges/{exchange_id}/labels"))

    async def label(self, exchange_id: int, word: str) -> list[shapes.Label]:
        """Put a word on an exchange; gives all that it then has."""
        return _labels(await self.request("PUT", f"/exchanges/{exchange_id}/labels/{quote(word, safe='')}"))

    async def unlabel(self, exchange_id: int, word: str) -> None:
        """Take a word off an exchange."""
        await self.request("DELETE", f"/exchanges/{exchange_id}/labels/{quote(word, safe='')}")

    def labels_in_use(self, *, run_id: int | None = None, limit: int | None = None) -> AsyncIterator[shapes.LabelCount]:
        """Every word in use, with the number of its exchanges."""
        return self.items("/labels", shapes.LabelCount, {"run": run_id}, limit=limit)

    def evaluations(self, run_id: int, *, limit: int | None = None) -> AsyncIterator[shapes.EvaluationShape]:
        """Scores with their intervals, in order of arrival."""
        return self.items(f"/runs/{run_id}/evaluations", shapes.EvaluationShape, limit=limit)

    def gate_decisions(self, run_id: int, *, limit: int | None = None) -> AsyncIterator[shapes.GateDecisionShape]:
        """Who could tutor in each round, and why."""
        return self.items(f"/runs/{run_id}/gate-decisions", shapes.GateDecisionShape, limit=limit)

    def break_rescue(self, run_id: int, *, limit: int | None = None) -> AsyncIterator[shapes.BreakRescueShape]:
        """How feedback changed answers."""
        return self.items(f"/runs/{run_id}/break-rescue", shapes.BreakRescueShape, limit=limit)

    async def curves(
        self, run_id: int, *, name: str | Sequence[str] = (), points: int = 1000, first: int = 0, last: int | None = None
    ) -> chart_shapes.Curves:
        """Metrics over the steps, as many entries as a chart can show; each says how far its points are apart."""
        wanted = {"name": name, "points": points, "first": first} | ({} if last is None else {"last": last})
        return chart_shapes.Curves.model_validate(await self.request("GET", f"/runs/{run_id}/curves", params=wanted))

    async def tallies(self, run_id: int, *, by: Literal["step", "round"] = "step", points: int = 1000) -> chart_shapes.Tallies:
        """Exchanges counted by runs of steps, or by round."""
        return chart_shapes.Tallies.model_validate(
            await self.request("GET", f"/runs/{run_id}/tallies", params={"by": by, "points": points})
        )

    async def histograms(
        self, run_id: int, quantity: chart_shapes.Quantity = "response_tokens", *, points: int = 1000
    ) -> chart_shapes.Histograms:
        """How long rollouts and feedbacks are, or how far rollouts are from their self-teacher, by runs of steps."""
        wanted = {"quantity": quantity, "points": points}
        return chart_shapes.Histograms.model_validate(await self.request("GET", f"/runs/{run_id}/histograms", params=wanted))

    async def alerts(self, run_id: int) -> list[chart_shapes.Alert]:
        """Signs that training goes wrong as the run is now, each with what to try."""
        return [item async for item in self.items(f"/runs/{run_id}/alerts", chart_shapes.Alert)]

    def checkpoints(self, run_id: int, *, limit: int | None = None) -> AsyncIterator[shapes.CheckpointShape]:
        """Checkpoints in order of arrival."""
        return self.items(f"/runs/{run_id}/checkpoints", shapes.CheckpointShape, limit=limit)

    async def artefacts(self, run_id: int) -> list[shapes.Artefact]:
        """Every file that a run keeps."""
        return [item async for item in self.items(f"/runs/{run_id}/artefacts", shapes.Artefact)]

    async def exports(self, run_id: int) -> list[shapes.ExportShape]:
        """The trained students as model folders."""
        return [item async for item in self.items(f"/runs/{run_id}/exports", shapes.ExportShape)]

    async def download_export(self, run_id: int, student: str, path: Path) -> int:
        """A trained student's model folder into the tar file `path`; returns its bytes."""
        return await self._save(f"/runs/{run_id}/exports/{student}", {}, path)

    async def notices(self, run_id: int) -> list[shapes.NoticeShape]:
        """What happened to a run besides its training, newest first."""
        return [item async for item in self.items(f"/runs/{run_id}/notices", shapes.NoticeShape)]

    async def storage(self) -> shapes.Storage:
        """What all runs take, and the runs that take most."""
        return shapes.Storage.model_validate(await self.request("GET", "/storage"))

    async def log(self, run_id: int, *, after: str | int | None = None, limit: int | None = None) -> shapes.LogPart:
        """A part of the log: its last bytes, or what follows `after`."""
        wanted = {key: value for key, value in (("after", after), ("limit", limit)) if value is not None}
        return shapes.LogPart.model_validate(await self.request("GET", f"/runs/{run_id}/logs", params=wanted))

    async def check_domain(self, domain_id: int) -> shapes.DomainCheck:
        """What is in a domain's files, and what is wrong with them."""
        return shapes.DomainCheck.model_validate(await self.request("GET", f"/domains/{domain_id}/check"))

    async def upload(self, train: Path, *, validation: Path | None = None, test: Path | None = None) -> Upload:
        """Bring a domain's files; `guess` of the answer says what likely stands where."""
        files = {split: path for split, path in (("train", train), ("validation", validation), ("test", test)) if path is not None}
        with ExitStack() as opened:
            sent = {split: (path.name, opened.enter_context(path.open("rb"))) for split, path in files.items()}
            return Upload.model_validate(await self.request("POST", "/uploads", files=sent, timeout=None))

    async def check_upload(self, upload_id: int, mapping: Mapping[str, Any]) -> UploadCheck:
        """What a domain of ``{"name", "columns"?, "verifier"?, "hold_out"?, "mend"?}`` would be, and what is wrong with it."""
        return UploadCheck.model_validate(await self.request("POST", f"/uploads/{upload_id}:check", json=dict(mapping), timeout=None))

    async def save_upload(self, upload_id: int, mapping: Mapping[str, Any]) -> Upload:
        """Make a domain of it; `domain.config` of the answer belongs among an experiment's domains."""
        return Upload.model_validate(await self.request("POST", f"/uploads/{upload_id}:save", json=dict(mapping), timeout=None))

    async def delete_upload(self, upload_id: int) -> None:
        """Delete it, and the domain that was made of it."""
        await self.request("DELETE", f"/uploads/{upload_id}")

    async def check_student(self, student_id: int) -> shapes.StudentCheck:
        """Whether a student can be loaded, as far as its files tell."""
        return shapes.StudentCheck.model_validate(await self.request("GET", f"/students/{student_id}/check"))

    async def compare(self, run_ids: Sequence[int], *, split: Literal["test", "validation"] | None = None) -> Comparison:
        """Up to 50 runs side by side: what differs, scores, Pareto fronts, numbers of each."""
        wanted = {"runs": ",".join(map(str, run_ids))} | ({"split": split} if split else {})
        return Comparison.model_validate(await self.request("GET", "/compare", params=wanted))

    async def compare_curves(self, run_ids: Sequence[int], name: str, *, points: int = 500) -> Overlay:
        """One curve of many runs on a common grid, and the mean of each configuration."""
        wanted = {"runs": ",".join(map(str, run_ids)), "name": name, "points": points}
        return Overlay.model_validate(await self.request("GET", "/compare/curves", params=wanted))

    async def report(self, run_id: int, *, compare: Sequence[int] = ()) -> shapes.Report:
        """A run in one document; `compare` adds rows of other runs."""
        return shapes.Report.model_validate(await self.request("GET", f"/runs/{run_id}/report", params={"compare": list(compare)}))

    async def report_text(self, run_id: int, format: Literal["markdown", "csv", "latex"], *, compare: Sequence[int] = ()) -> str:
        """The report as text."""
        wanted = {"format": format, "compare": list(compare)}
        return (await self._send("GET", f"/runs/{run_id}/report", params=wanted)).text

    async def export_metrics(self, run_id: int, path: Path, *, format: str = "jsonl", name: str | Sequence[str] = ()) -> int:
        """All points into the file `path` (jsonl, parquet or csv); returns its bytes."""
        return await self._save(f"/runs/{run_id}/metrics/export", {"format": format, "name": name}, path)

    async def export_exchanges(self, run_id: int, path: Path, *, format: str = "jsonl", **filters: Any) -> int:
        """All exchanges that fit into the file `path` (jsonl or parquet); returns its bytes."""
        return await self._save(f"/runs/{run_id}/exchanges/export", {"format": format, **filters}, path)

    # ---------- sweeps ----------

    async def ablations(self) -> list[shapes.AblationShape]:
        """The paper's sweeps, to be laid over any preset."""
        return [item async for item in self.items("/ablations", shapes.AblationShape)]

    async def check_sweep(self, sweep: Mapping[str, Any]) -> shapes.SweepCheck:
        """Validate a sweep and store nothing; its points."""
        return shapes.SweepCheck.model_validate(await self.request("POST", "/sweeps", json=dict(sweep), params={"dry_run": True}))

    async def launch_sweep(self, sweep: Mapping[str, Any], *, idempotency_key: str | None = None) -> shapes.SweepDetail:
        """Launch ``{"name", "preset"?, "config"?, "grid" | "overrides" | "ablation"}``, every point a run in the queue."""
        made = await self.request("POST", "/sweeps", json=dict(sweep), headers=_keyed(idempotency_key))
        return shapes.SweepDetail.model_validate(made)

    async def sweep(self, sweep_id: int) -> shapes.SweepDetail:
        """A sweep with its points and their runs."""
        return shapes.SweepDetail.model_validate(await self.request("GET", f"/sweeps/{sweep_id}"))

    def sweeps(self, *, limit: int | None = None) -> AsyncIterator[shapes.Sweep]:
        """Sweeps, newest first."""
        return self.items("/sweeps", shapes.Sweep, limit=limit)

    async def stop_sweep(self, sweep_id: int) -> shapes.SweepDetail:
        """Stop every run of a sweep that has not ended."""
        return shapes.SweepDetail.model_validate(await self.request("POST", f"/sweeps/{sweep_id}:stop"))

    async def sweep_table(self, sweep_id: int) -> str:
        """Values, scores and verdicts as CSV."""
        return (await self._send("GET", f"/sweeps/{sweep_id}/table")).text

    async def wait_for_sweep(self, sweep_id: int, *, timeout: float | None = None) -> shapes.SweepDetail:
        """The sweep once none of its runs waits or is with a worker.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            sweep = await self.sweep(sweep_id)
            if sweep.progress.over:
                return sweep
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Sweep {sweep_id} did not end in time.")
            await anyio.sleep(POLL_SECONDS)

    # ---------- library ----------

    def students(self, *, limit: int | None = None) -> AsyncIterator[shapes.StudentShape]:
        """Students that experiments named, that runs and fine-tunings made, or that somebody brought, newest first."""
        return self.items("/students", shapes.StudentShape, limit=limit)

    def uploads(self, *, limit: int | None = None) -> AsyncIterator[Upload]:
        """Files of domains that people brought, newest first."""
        return self.items("/uploads", Upload, limit=limit)

    async def student(self, student_id: int) -> shapes.StudentShape:
        """One student."""
        return shapes.StudentShape.model_validate(await self.request("GET", f"/students/{student_id}"))

    async def register_student(self, name: str, model: str, *, native_domain: str | None = None, keep: bool = False) -> shapes.StudentShape:
        """Give a hub id or a folder on the server a name; with `keep` the folder is copied into the studio's home."""
        body = {"name": name, "model": model, "native_domain": native_domain, "keep": keep}
        return shapes.StudentShape.model_validate(await self.request("POST", "/students", json=body))

    async def upload_student(self, name: str, path: Path, *, native_domain: str | None = None) -> shapes.StudentShape:
        """Bring a student: `path` is an uncompressed tar file of its model folder."""
        wanted = {"name": name} | ({"native_domain": native_domain} if native_domain else {})
        arguments: dict[str, Any] = {"params": wanted, "content": _parts(path), "timeout": httpx.Timeout(30.0, read=600.0, write=600.0)}
        headers = {"Content-Type": "application/octet-stream"}
        return shapes.StudentShape.model_validate(await self.request("POST", "/uploads/students", headers=headers, **arguments))

    async def keep_student(self, student_id: int, name: str) -> shapes.StudentShape:
        """Copy a student, such as a run's, into the studio's home under a name of its own."""
        return shapes.StudentShape.model_validate(await self.request("POST", f"/students/{student_id}:keep", json={"name": name}))

    async def download_student(self, student_id: int, path: Path) -> int:
        """A student's model folder into the tar file `path`; returns its bytes."""
        return await self._save(f"/students/{student_id}/export", {}, path)

    async def forget_student(self, student_id: int) -> None:
        """Take a student off the list; a folder that was kept for it is deleted."""
        await self.request("DELETE", f"/students/{student_id}")

    async def make_specialist(self, name: str, model: str, domain_id: int, **settings: Any) -> Specialist:
        """Fine-tune `model` on a domain's training questions: `learn`, `sft`, `look`, `device`, `dtype`. It waits for a worker then."""
        body = {"name": name, "model": model, "domain_id": domain_id, **settings}
        return Specialist.model_validate(await self.request("POST", "/specialists", json=body))

    def specialists(self, *, limit: int | None = None) -> AsyncIterator[Specialist]:
        """Specialists that are being made or were, the newest first."""
        return self.items("/specialists", Specialist, limit=limit)

    async def specialist(self, specialist_id: int) -> Specialist:
        """One of them: its loss so far, its scores before and after, its log."""
        return Specialist.model_validate(await self.request("GET", f"/specialists/{specialist_id}"))

    async def wait_for_specialist(self, specialist_id: int, *, timeout: float | None = None) -> Specialist:
        """The specialist once it is made, or has failed.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return await self._ended(f"/specialists/{specialist_id}", Specialist, timeout)

    async def chat(self, students: Sequence[int], question: str | None = None, **settings: Any) -> Chat:
        """Ask one or two students: `system`, `domain_id` with `question_id`, `temperature`, `top_p`, `max_tokens`, `samples`, `seed`."""
        body = {"students": list(students), "question": question, **settings}
        return Chat.model_validate(await self.request("POST", "/chats", json=body))

    def chats(self, *, limit: int | None = None) -> AsyncIterator[Chat]:
        """What students were asked, the newest first."""
        return self.items("/chats", Chat, limit=limit)

    async def wait_for_chat(self, chat_id: int, *, timeout: float | None = None) -> Chat:
        """The chat once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return await self._ended(f"/chats/{chat_id}", Chat, timeout)

    async def cancel_job(self, job_id: int) -> None:
        """Give up a replay, a specialist or a chat."""
        await self.request("POST", f"/jobs/{job_id}:cancel")

    def domains(self, *, limit: int | None = None) -> AsyncIterator[shapes.DomainShape]:
        """Domains that experiments named, newest first."""
        return self.items("/domains", shapes.DomainShape, limit=limit)

    async def workers(self) -> list[shapes.Worker]:
        """Workers that live."""
        return [shapes.Worker.model_validate(item) for item in (await self.request("GET", "/workers"))["items"]]

    # ---------- webhooks ----------

    def webhooks(self, *, limit: int | None = None) -> AsyncIterator[Webhook]:
        """Your webhooks, newest first."""
        return self.items("/webhooks", Webhook, limit=limit)

    async def create_webhook(self, url: str, events: Sequence[WebhookEvent]) -> NewWebhookShape:
        """Tell `url` of `events`; the answer has the secret that checks signatures, this once."""
        body = {"url": url, "events": list(events)}
        return NewWebhookShape.model_validate(await self.request("POST", "/webhooks", json=body))

    async def change_webhook(self, webhook_id: int, **changes: Any) -> Webhook:
        """Another `url` or `events`, or `enabled` true or false."""
        return Webhook.model_validate(await self.request("PATCH", f"/webhooks/{webhook_id}", json=changes))

    async def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook with its deliveries."""
        await self.request("DELETE", f"/webhooks/{webhook_id}")

    async def ping_webhook(self, webhook_id: int) -> Delivery:
        """Send it a delivery that says nothing but that it came through."""
        return Delivery.model_validate(await self.request("POST", f"/webhooks/{webhook_id}:ping"))

    async def redeliver(self, webhook_id: int, delivery_id: int) -> Delivery:
        """Send a delivery again, under the same id."""
        path = f"/webhooks/{webhook_id}/deliveries/{delivery_id}:redeliver"
        return Delivery.model_validate(await self.request("POST", path))

    def deliveries(self, webhook_id: int, *, limit: int | None = None) -> AsyncIterator[Delivery]:
        """What it was told, newest first."""
        return self.items(f"/webhooks/{webhook_id}/deliveries", Delivery, limit=limit)

    def tries(self, webhook_id: int, delivery_id: int, *, limit: int | None = None) -> AsyncIterator[DeliveryTry]:
        """Every request that was made for a delivery, newest first."""
        return self.items(f"/webhooks/{webhook_id}/deliveries/{delivery_id}/tries", DeliveryTry, limit=limit)

    # ---------- oneself ----------

    async def me(self) -> Me:
        """Who you are to the service."""
        return Me.model_validate(await self.request("GET", "/me"))

    def tokens(self, *, limit: int | None = None) -> AsyncIterator[TokenShape]:
        """Your tokens, revoked and expired ones too, newest first."""
        return self.items("/tokens", TokenShape, limit=limit)

    async def create_token(self, name: str, *, scope: Scope = "read", expires_at: datetime | None = None) -> NewTokenShape:
        """A new token; its text is shown this once. `expires_at` carries a time zone."""
        body = {"name": name, "scope": scope, "expires_at": expires_at.isoformat() if expires_at else None}
        return NewTokenShape.model_validate(await self.request("POST", "/tokens", json=body))

    async def revoke_token(self, token_id: int) -> None:
        """From now on it lets nobody in."""
        await self.request("DELETE", f"/tokens/{token_id}")

    # ---------- underneath ----------

    async def _act(self, run_id: int, verb: str, body: Mapping[str, Any] | None = None) -> shapes.Run:
        return shapes.Run.model_validate(await self.request("POST", f"/runs/{run_id}:{verb}", json=body))

    async def _ended(self, path: str, shape: type[S], timeout: float | None) -> S:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            told = await self.request("GET", path)
            if told["ended_at"] is not None:
                return shape.model_validate(told)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not end in time.")
            await anyio.sleep(1.0)

    async def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from None
        if response.is_error:
            raise refusal(response)
        return response

    async def _save(self, path: str, parameters: Filters, target: Path) -> int:
        """Stream an answer into a file, which stands under its name only once it is whole."""
        wanted = {name: value for name, value in parameters.items() if value is not None and value != ()}
        part = target.with_name(target.name + ".part")
        size = 0
        try:
            async with self._http.stream("GET", path, params=wanted, timeout=httpx.Timeout(30.0, read=SILENCE_SECONDS)) as response:
                if response.is_error:
                    await response.aread()
                    raise refusal(response)
                with part.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        size += file.write(chunk)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from None
        except OSError as error:
            raise ServiceError(f"{target} cannot be written: {error.strerror}.", advice="Name another file.") from None
        else:
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return size


async def _parts(path: Path) -> AsyncIterator[bytes]:
    """A file's bytes."""
    with path.open("rb") as file:
        while part := file.read(2**20):
            yield part


def _labels(listing: Any) -> list[shapes.Label]:
    return [shapes.Label.model_validate(item) for item in listing["items"]]


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key is not None else {}


def _patience(deadline: float | None) -> float:
    return SILENCE_SECONDS if deadline is None else min(SILENCE_SECONDS, max(0.1, deadline - time.monotonic()))
