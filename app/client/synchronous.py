"""The client that blocks. Made from `asynchronous.py` by `python -m app.client.generate`; change that one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote

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


class Client:
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("OPCOD_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("OPCOD_TOKEN")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(base_url=self.url + API, timeout=timeout, headers=headers, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    # ---------- plain requests ----------

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Plain data of any path's answer, for what has no method here; None where the answer is empty."""
        response = self._send(method, path, **arguments)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise not_ours(self.url) from None

    def pages(self, path: str, parameters: Filters | None = None, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Items of any list as plain data, page by page; at most `limit`."""
        wanted = {name: value for name, value in (parameters or {}).items() if value is not None and value != ()}
        left = limit
        while left is None or left > 0:
            page = self.request("GET", path, params={**wanted, "limit": PAGE if left is None else min(left, PAGE)})
            for item in page["items"][:left]:
                yield item
            left = None if left is None else left - len(page["items"])
            wanted["cursor"] = page["next_cursor"]
            if not page["items"] or page["next_cursor"] is None:
                return

    def items(self, path: str, shape: type[S], parameters: Filters | None = None, *, limit: int | None = None) -> Iterator[S]:
        """Items of any list as `shape`."""
        for item in self.pages(path, parameters, limit=limit):
            yield shape.model_validate(item)

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            response = self._http.get("/health", timeout=2.0)
        except httpx.HTTPError:
            return False
        return response.is_success

    # ---------- experiments ----------

    def check(self, experiment: Mapping[str, Any]) -> shapes.Checked:
        """Validate an experiment and store nothing; its whole configuration."""
        return shapes.Checked.model_validate(self.request("POST", "/experiments", json=dict(experiment), params={"dry_run": True}))

    def estimate(self, experiment: Mapping[str, Any]) -> Estimate:
        """What an experiment of ``{"name"?, "preset"?, "config"?}`` will take, with the uncertainty of that."""
        return Estimate.model_validate(self.request("POST", "/experiments:estimate", json=dict(experiment)))

    def preflight(self, experiment: Mapping[str, Any], *, size: Mapping[str, int] | None = None) -> PreflightJob:
        """Let a worker look at an experiment of ``{"name"?, "preset"?, "config"?}``. It waits for one then."""
        body = dict(experiment) | ({"size": dict(size)} if size else {})
        return PreflightJob.model_validate(self.request("POST", "/preflights", json=body))

    def preflights(self, *, limit: int | None = None) -> Iterator[PreflightJob]:
        """Pre-flights, the newest first, without what they found."""
        return self.items("/preflights", PreflightJob, limit=limit)

    def wait_for_preflight(self, preflight_id: int, *, timeout: float | None = None) -> PreflightJob:
        """The pre-flight once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found = PreflightJob.model_validate(self.request("GET", f"/preflights/{preflight_id}"))
            if found.ended_at is not None:
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Pre-flight {preflight_id} did not end in time.")
            time.sleep(1.0)

    def foretold(self, preflight_id: int) -> list[ForetoldRun]:
        """What a pre-flight foretold, beside what the runs recorded that were launched from its settings."""
        found = self.request("GET", f"/preflights/{preflight_id}/runs")
        return [ForetoldRun.model_validate(item) for item in found["items"]]

    def create_experiment(self, experiment: Mapping[str, Any], *, idempotency_key: str | None = None) -> shapes.Experiment:
        """Make an experiment of ``{"name"?, "preset"?, "config"?}``; the same key again makes no second one."""
        made = self.request("POST", "/experiments", json=dict(experiment), headers=_keyed(idempotency_key))
        return shapes.Experiment.model_validate(made)

    def experiment(self, experiment_id: int) -> shapes.Experiment:
        """One experiment."""
        return shapes.Experiment.model_validate(self.request("GET", f"/experiments/{experiment_id}"))

    def experiments(self, *, limit: int | None = None) -> Iterator[shapes.Experiment]:
        """Experiments, newest first."""
        return self.items("/experiments", shapes.Experiment, limit=limit)

    def start(self, experiment_id: int, *, name: str | None = None, idempotency_key: str | None = None) -> shapes.Run:
        """Queue a run of an experiment; the same key again makes no second one."""
        body = {"name": name} if name is not None else {}
        made = self.request("POST", f"/experiments/{experiment_id}/runs", json=body, headers=_keyed(idempotency_key))
        return shapes.Run.model_validate(made)

    def launch(self, experiment: Mapping[str, Any]) -> shapes.Run:
        """Create an experiment and start a run of it."""
        return self.start((self.create_experiment(experiment)).id)

    # ---------- runs ----------

    def run(self, run_id: int) -> shapes.Run:
        """One run."""
        return shapes.Run.model_validate(self.request("GET", f"/runs/{run_id}"))

    def run_estimate(self, run_id: int) -> shapes.RunEstimate:
        """What a run was expected to take, and what it took."""
        return shapes.RunEstimate.model_validate(self.request("GET", f"/runs/{run_id}/estimate"))

    def runs(self, *, limit: int | None = None, **filters: Any) -> Iterator[shapes.Run]:
        """Runs, newest first; `filters` are those of `GET /runs`, such as ``status="running"``."""
        return self.items("/runs", shapes.Run, filters, limit=limit)

    def stop(self, run_id: int) -> shapes.Run:
        """Stop a run at its next step; it can be resumed."""
        return self._act(run_id, "stop")

    def resume(self, run_id: int) -> shapes.Run:
        """Queue a run again; it goes on from its last checkpoint."""
        return self._act(run_id, "resume")

    def pause(self, run_id: int) -> shapes.Run:
        """Pause a run at its next step; its worker is free for others meanwhile."""
        return self._act(run_id, "pause")

    def retry(self, run_id: int, *, afresh: bool = False) -> shapes.Run:
        """Do an ended run over: from its last checkpoint, or afresh as a new run. Gives the run that waits."""
        return self._act(run_id, "retry", {"start": "afresh" if afresh else "checkpoint"})

    def clone(
        self, run_id: int, *, config: Mapping[str, Any] | None = None, name: str | None = None, idempotency_key: str | None = None
    ) -> shapes.Run:
        """A new run with the same settings, or with those of `config` that differ."""
        body = {key: value for key, value in (("config", config), ("name", name)) if value is not None}
        made = self.request("POST", f"/runs/{run_id}:clone", json=body, headers=_keyed(idempotency_key))
        return shapes.Run.model_validate(made)

    def move(self, run_id: int, position: int) -> shapes.Run:
        """Put a waiting run at a place in the queue; 1 is next."""
        return self._act(run_id, "move", {"position": position})

    def change(self, run_id: int, **values: Any) -> shapes.Run:
        """Set `name`, `tags`, `archived` or `priority`; what is left out stays."""
        return shapes.Run.model_validate(self.request("PATCH", f"/runs/{run_id}", json=values))

    def delete(self, run_id: int) -> None:
        """Delete an ended run with all that it left behind."""
        self.request("DELETE", f"/runs/{run_id}")

    def queue(self) -> list[shapes.Run]:
        """Runs that wait, the next one first."""
        return [item for item in self.items("/queue", shapes.Run)]

    def transitions(self, run_id: int) -> list[shapes.Transition]:
        """Every change of a run's status, oldest first."""
        return [item for item in self.items(f"/runs/{run_id}/transitions", shapes.Transition)]

    def wait(self, run_id: int, *, timeout: float | None = None, until: Sequence[str] = ENDED) -> shapes.Run:
        """The run once its status is one of `until`. A server that goes away meanwhile is waited for.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self.follow(run_id, kinds=["status_changed"], until=until, deadline=deadline):
            pass
        return self.run(run_id)

    def follow(
        self,
        run_id: int,
        *,
        after: int = 0,
        kinds: Sequence[str] = (),
        until: Sequence[str] = ENDED,
        deadline: float | None = None,
    ) -> Iterator[shapes.StreamEvent]:
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
                with self._http.stream(
                    "GET",
                    f"/runs/{run_id}/events",
                    params={"kind": wanted} if wanted else {},
                    headers={"Accept": "text/event-stream", "Last-Event-ID": str(after)},
                    timeout=httpx.Timeout(10.0, read=_patience(deadline)),
                ) as response:
                    if response.is_error and response.status_code != 503:
                        response.read()
                        raise refusal(response)
                    reader = EventReader()
                    for line in response.iter_lines():
                        if deadline is not None and time.monotonic() > deadline:
                            break
                        event = reader.take(line)
                        if event is None:
                            continue
                        last = event.kind == "status_changed" and self._settled(run_id, event, until)
                        after = event.id
                        if not kinds or event.kind in kinds:
                            yield event
                        if last:
                            return
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Run {run_id} did not come so far in time.")
            time.sleep(RECONNECT_SECONDS)

    def _settled(self, run_id: int, event: shapes.StreamEvent, until: Sequence[str]) -> bool:
        """Whether this change of status is the run's last for now: one that came to an end may have been resumed since."""
        if event.data.get("to") not in (*until, *ENDED):
            return False
        response = self._http.get(f"/runs/{run_id}/transitions", params={"order": "newest", "limit": 1})
        if response.status_code == 503:
            raise httpx.ReadError("the server is not ready", request=response.request)  # like a broken stream: tried again
        if response.is_error:
            raise refusal(response)
        return shapes.Transition.model_validate(response.json()["items"][0]).at <= event.at

    # ---------- records ----------

    def metrics(
        self, run_id: int, *, name: str | Sequence[str] = (), after: str | None = None, limit: int | None = None
    ) -> Iterator[shapes.MetricPoint]:
        """Points in order of arrival; ``student1/*`` stands for all names that begin so."""
        return self.items(f"/runs/{run_id}/metrics", shapes.MetricPoint, {"name": name, "after": after}, limit=limit)

    def metric_names(self, run_id: int) -> list[str]:
        """The names of every curve that the run has."""
        found: list[str] = (self.request("GET", f"/runs/{run_id}/metric-names"))["items"]
        return found

    def exchanges(self, run_id: int, *, limit: int | None = None, **filters: Any) -> Iterator[shapes.Exchange]:
        """Exchanges in order of arrival; `filters` are those of `GET /runs/{id}/exchanges`, such as ``outcome="kept"``."""
        return self.items(f"/runs/{run_id}/exchanges", shapes.Exchange, filters, limit=limit)

    def exchange(self, exchange_id: int) -> shapes.ExchangeDetail:
        """One exchange, with its siblings' ids."""
        return shapes.ExchangeDetail.model_validate(self.request("GET", f"/exchanges/{exchange_id}"))

    def facets(self, run_id: int, **filters: Any) -> shapes.Facets:
        """How many exchanges fit, and how many would with another value of each filter."""
        return shapes.Facets.model_validate(self.request("GET", f"/runs/{run_id}/exchanges/facets", params=filters))

    def comments(self, exchange_id: int) -> list[shapes.Comment]:
        """What people wrote about an exchange, oldest first."""
        found = self.request("GET", f"/exchanges/{exchange_id}/comments", params={"limit": 500})
        return [shapes.Comment.model_validate(item) for item in found["items"]]

    def comment(self, exchange_id: int, text: str) -> shapes.Comment:
        """Write a comment."""
        return shapes.Comment.model_validate(self.request("POST", f"/exchanges/{exchange_id}/comments", json={"text": text}))

    def remove_comment(self, exchange_id: int, comment_id: int) -> None:
        """Take a comment away."""
        self.request("DELETE", f"/exchanges/{exchange_id}/comments/{comment_id}")

    def views(self) -> list[shapes.View]:
        """Saved filters of exchanges, everybody's."""
        return [shapes.View.model_validate(item) for item in (self.request("GET", "/views"))["items"]]

    def save_view(self, name: str, query: str) -> shapes.View:
        """Save a filter under a name; `query` is as in the inspector's address."""
        return shapes.View.model_validate(self.request("POST", "/views", json={"name": name, "query": query}))

    def remove_view(self, view_id: int) -> None:
        """Take a saved view away."""
        self.request("DELETE", f"/views/{view_id}")

    def rollout_tokens(self, exchange_id: int) -> shapes.TokensShape:
        """The rollout token by token, where it was recorded so."""
        return shapes.TokensShape.model_validate(self.request("GET", f"/exchanges/{exchange_id}/tokens"))

    def replay(self, exchange_id: int, **asked: Any) -> shapes.Replay:
        """Ask the exchange's self-teacher again: `feedback`, `own_solution`, `weights`, `samples`. It waits for a worker then."""
        return shapes.Replay.model_validate(self.request("POST", f"/exchanges/{exchange_id}:replay", json=asked))

    def replays(self, exchange_id: int, *, limit: int | None = None) -> Iterator[shapes.Replay]:
        """The exchange's replays, the newest first."""
        return self.items(f"/exchanges/{exchange_id}/replays", shapes.Replay, limit=limit)

    def wait_for_replay(self, replay_id: int, *, timeout: float | None = None) -> shapes.Replay:
        """The replay once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return self._ended(f"/replays/{replay_id}", shapes.Replay, timeout)

    def labels(self, exchange_id: int) -> list[shapes.Label]:
        """The words on an exchange, and who put them there."""
        return _labels(self.request("GET", f"/exchanges/{exchange_id}/labels"))

    def label(self, exchange_id: int, word: str) -> list[shapes.Label]:
        """Put a word on an exchange; gives all that it then has."""
        return _labels(self.request("PUT", f"/exchanges/{exchange_id}/labels/{quote(word, safe='')}"))

    def unlabel(self, exchange_id: int, word: str) -> None:
        """Take a word off an exchange."""
        self.request("DELETE", f"/exchanges/{exchange_id}/labels/{quote(word, safe='')}")

    def labels_in_use(self, *, run_id: int | None = None, limit: int | None = None) -> Iterator[shapes.LabelCount]:
        """Every word in use, with the number of its exchanges."""
        return self.items("/labels", shapes.LabelCount, {"run": run_id}, limit=limit)

    def evaluations(self, run_id: int, *, limit: int | None = None) -> Iterator[shapes.EvaluationShape]:
        """Scores with their intervals, in order of arrival."""
        return self.items(f"/runs/{run_id}/evaluations", shapes.EvaluationShape, limit=limit)

    def gate_decisions(self, run_id: int, *, limit: int | None = None) -> Iterator[shapes.GateDecisionShape]:
        """Who could tutor in each round, and why."""
        return self.items(f"/runs/{run_id}/gate-decisions", shapes.GateDecisionShape, limit=limit)

    def break_rescue(self, run_id: int, *, limit: int | None = None) -> Iterator[shapes.BreakRescueShape]:
        """How feedback changed answers."""
        return self.items(f"/runs/{run_id}/break-rescue", shapes.BreakRescueShape, limit=limit)

    def curves(
        self, run_id: int, *, name: str | Sequence[str] = (), points: int = 1000, first: int = 0, last: int | None = None
    ) -> chart_shapes.Curves:
        """Metrics over the steps, as many entries as a chart can show; each says how far its points are apart."""
        wanted = {"name": name, "points": points, "first": first} | ({} if last is None else {"last": last})
        return chart_shapes.Curves.model_validate(self.request("GET", f"/runs/{run_id}/curves", params=wanted))

    def tallies(self, run_id: int, *, by: Literal["step", "round"] = "step", points: int = 1000) -> chart_shapes.Tallies:
        """Exchanges counted by runs of steps, or by round."""
        return chart_shapes.Tallies.model_validate(self.request("GET", f"/runs/{run_id}/tallies", params={"by": by, "points": points}))

    def histograms(
        self, run_id: int, quantity: chart_shapes.Quantity = "response_tokens", *, points: int = 1000
    ) -> chart_shapes.Histograms:
        """How long rollouts and feedbacks are, or how far rollouts are from their self-teacher, by runs of steps."""
        wanted = {"quantity": quantity, "points": points}
        return chart_shapes.Histograms.model_validate(self.request("GET", f"/runs/{run_id}/histograms", params=wanted))

    def alerts(self, run_id: int) -> list[chart_shapes.Alert]:
        """Signs that training goes wrong as the run is now, each with what to try."""
        return [item for item in self.items(f"/runs/{run_id}/alerts", chart_shapes.Alert)]

    def checkpoints(self, run_id: int, *, limit: int | None = None) -> Iterator[shapes.CheckpointShape]:
        """Checkpoints in order of arrival."""
        return self.items(f"/runs/{run_id}/checkpoints", shapes.CheckpointShape, limit=limit)

    def artefacts(self, run_id: int) -> list[shapes.Artefact]:
        """Every file that a run keeps."""
        return [item for item in self.items(f"/runs/{run_id}/artefacts", shapes.Artefact)]

    def exports(self, run_id: int) -> list[shapes.ExportShape]:
        """The trained students as model folders."""
        return [item for item in self.items(f"/runs/{run_id}/exports", shapes.ExportShape)]

    def download_export(self, run_id: int, student: str, path: Path) -> int:
        """A trained student's model folder into the tar file `path`; returns its bytes."""
        return self._save(f"/runs/{run_id}/exports/{student}", {}, path)

    def notices(self, run_id: int) -> list[shapes.NoticeShape]:
        """What happened to a run besides its training, newest first."""
        return [item for item in self.items(f"/runs/{run_id}/notices", shapes.NoticeShape)]

    def storage(self) -> shapes.Storage:
        """What all runs take, and the runs that take most."""
        return shapes.Storage.model_validate(self.request("GET", "/storage"))

    def log(self, run_id: int, *, after: str | int | None = None, limit: int | None = None) -> shapes.LogPart:
        """A part of the log: its last bytes, or what follows `after`."""
        wanted = {key: value for key, value in (("after", after), ("limit", limit)) if value is not None}
        return shapes.LogPart.model_validate(self.request("GET", f"/runs/{run_id}/logs", params=wanted))

    def check_domain(self, domain_id: int) -> shapes.DomainCheck:
        """What is in a domain's files, and what is wrong with them."""
        return shapes.DomainCheck.model_validate(self.request("GET", f"/domains/{domain_id}/check"))

    def upload(self, train: Path, *, validation: Path | None = None, test: Path | None = None) -> Upload:
        """Bring a domain's files; `guess` of the answer says what likely stands where."""
        files = {split: path for split, path in (("train", train), ("validation", validation), ("test", test)) if path is not None}
        with ExitStack() as opened:
            sent = {split: (path.name, opened.enter_context(path.open("rb"))) for split, path in files.items()}
            return Upload.model_validate(self.request("POST", "/uploads", files=sent, timeout=None))

    def check_upload(self, upload_id: int, mapping: Mapping[str, Any]) -> UploadCheck:
        """What a domain of ``{"name", "columns"?, "verifier"?, "hold_out"?, "mend"?}`` would be, and what is wrong with it."""
        return UploadCheck.model_validate(self.request("POST", f"/uploads/{upload_id}:check", json=dict(mapping), timeout=None))

    def save_upload(self, upload_id: int, mapping: Mapping[str, Any]) -> Upload:
        """Make a domain of it; `domain.config` of the answer belongs among an experiment's domains."""
        return Upload.model_validate(self.request("POST", f"/uploads/{upload_id}:save", json=dict(mapping), timeout=None))

    def delete_upload(self, upload_id: int) -> None:
        """Delete it, and the domain that was made of it."""
        self.request("DELETE", f"/uploads/{upload_id}")

    def check_student(self, student_id: int) -> shapes.StudentCheck:
        """Whether a student can be loaded, as far as its files tell."""
        return shapes.StudentCheck.model_validate(self.request("GET", f"/students/{student_id}/check"))

    def compare(self, run_ids: Sequence[int], *, split: Literal["test", "validation"] | None = None) -> Comparison:
        """Up to 50 runs side by side: what differs, scores, Pareto fronts, numbers of each."""
        wanted = {"runs": ",".join(map(str, run_ids))} | ({"split": split} if split else {})
        return Comparison.model_validate(self.request("GET", "/compare", params=wanted))

    def compare_curves(self, run_ids: Sequence[int], name: str, *, points: int = 500) -> Overlay:
        """One curve of many runs on a common grid, and the mean of each configuration."""
        wanted = {"runs": ",".join(map(str, run_ids)), "name": name, "points": points}
        return Overlay.model_validate(self.request("GET", "/compare/curves", params=wanted))

    def report(self, run_id: int, *, compare: Sequence[int] = ()) -> shapes.Report:
        """A run in one document; `compare` adds rows of other runs."""
        return shapes.Report.model_validate(self.request("GET", f"/runs/{run_id}/report", params={"compare": list(compare)}))

    def report_text(self, run_id: int, format: Literal["markdown", "csv", "latex"], *, compare: Sequence[int] = ()) -> str:
        """The report as text."""
        wanted = {"format": format, "compare": list(compare)}
        return (self._send("GET", f"/runs/{run_id}/report", params=wanted)).text

    def export_metrics(self, run_id: int, path: Path, *, format: str = "jsonl", name: str | Sequence[str] = ()) -> int:
        """All points into the file `path` (jsonl, parquet or csv); returns its bytes."""
        return self._save(f"/runs/{run_id}/metrics/export", {"format": format, "name": name}, path)

    def export_exchanges(self, run_id: int, path: Path, *, format: str = "jsonl", **filters: Any) -> int:
        """All exchanges that fit into the file `path` (jsonl or parquet); returns its bytes."""
        return self._save(f"/runs/{run_id}/exchanges/export", {"format": format, **filters}, path)

    # ---------- sweeps ----------

    def ablations(self) -> list[shapes.AblationShape]:
        """The paper's sweeps, to be laid over any preset."""
        return [item for item in self.items("/ablations", shapes.AblationShape)]

    def check_sweep(self, sweep: Mapping[str, Any]) -> shapes.SweepCheck:
        """Validate a sweep and store nothing; its points."""
        return shapes.SweepCheck.model_validate(self.request("POST", "/sweeps", json=dict(sweep), params={"dry_run": True}))

    def launch_sweep(self, sweep: Mapping[str, Any], *, idempotency_key: str | None = None) -> shapes.SweepDetail:
        """Launch ``{"name", "preset"?, "config"?, "grid" | "overrides" | "ablation"}``, every point a run in the queue."""
        made = self.request("POST", "/sweeps", json=dict(sweep), headers=_keyed(idempotency_key))
        return shapes.SweepDetail.model_validate(made)

    def sweep(self, sweep_id: int) -> shapes.SweepDetail:
        """A sweep with its points and their runs."""
        return shapes.SweepDetail.model_validate(self.request("GET", f"/sweeps/{sweep_id}"))

    def sweeps(self, *, limit: int | None = None) -> Iterator[shapes.Sweep]:
        """Sweeps, newest first."""
        return self.items("/sweeps", shapes.Sweep, limit=limit)

    def stop_sweep(self, sweep_id: int) -> shapes.SweepDetail:
        """Stop every run of a sweep that has not ended."""
        return shapes.SweepDetail.model_validate(self.request("POST", f"/sweeps/{sweep_id}:stop"))

    def sweep_table(self, sweep_id: int) -> str:
        """Values, scores and verdicts as CSV."""
        return (self._send("GET", f"/sweeps/{sweep_id}/table")).text

    def wait_for_sweep(self, sweep_id: int, *, timeout: float | None = None) -> shapes.SweepDetail:
        """The sweep once none of its runs waits or is with a worker.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            sweep = self.sweep(sweep_id)
            if sweep.progress.over:
                return sweep
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Sweep {sweep_id} did not end in time.")
            time.sleep(POLL_SECONDS)

    # ---------- library ----------

    def students(self, *, limit: int | None = None) -> Iterator[shapes.StudentShape]:
        """Students that experiments named, that runs and fine-tunings made, or that somebody brought, newest first."""
        return self.items("/students", shapes.StudentShape, limit=limit)

    def uploads(self, *, limit: int | None = None) -> Iterator[Upload]:
        """Files of domains that people brought, newest first."""
        return self.items("/uploads", Upload, limit=limit)

    def student(self, student_id: int) -> shapes.StudentShape:
        """One student."""
        return shapes.StudentShape.model_validate(self.request("GET", f"/students/{student_id}"))

    def register_student(self, name: str, model: str, *, native_domain: str | None = None, keep: bool = False) -> shapes.StudentShape:
        """Give a hub id or a folder on the server a name; with `keep` the folder is copied into the studio's home."""
        body = {"name": name, "model": model, "native_domain": native_domain, "keep": keep}
        return shapes.StudentShape.model_validate(self.request("POST", "/students", json=body))

    def upload_student(self, name: str, path: Path, *, native_domain: str | None = None) -> shapes.StudentShape:
        """Bring a student: `path` is an uncompressed tar file of its model folder."""
        wanted = {"name": name} | ({"native_domain": native_domain} if native_domain else {})
        arguments: dict[str, Any] = {"params": wanted, "content": _parts(path), "timeout": httpx.Timeout(30.0, read=600.0, write=600.0)}
        headers = {"Content-Type": "application/octet-stream"}
        return shapes.StudentShape.model_validate(self.request("POST", "/uploads/students", headers=headers, **arguments))

    def keep_student(self, student_id: int, name: str) -> shapes.StudentShape:
        """Copy a student, such as a run's, into the studio's home under a name of its own."""
        return shapes.StudentShape.model_validate(self.request("POST", f"/students/{student_id}:keep", json={"name": name}))

    def download_student(self, student_id: int, path: Path) -> int:
        """A student's model folder into the tar file `path`; returns its bytes."""
        return self._save(f"/students/{student_id}/export", {}, path)

    def forget_student(self, student_id: int) -> None:
        """Take a student off the list; a folder that was kept for it is deleted."""
        self.request("DELETE", f"/students/{student_id}")

    def make_specialist(self, name: str, model: str, domain_id: int, **settings: Any) -> Specialist:
        """Fine-tune `model` on a domain's training questions: `learn`, `sft`, `look`, `device`, `dtype`. It waits for a worker then."""
        body = {"name": name, "model": model, "domain_id": domain_id, **settings}
        return Specialist.model_validate(self.request("POST", "/specialists", json=body))

    def specialists(self, *, limit: int | None = None) -> Iterator[Specialist]:
        """Specialists that are being made or were, the newest first."""
        return self.items("/specialists", Specialist, limit=limit)

    def specialist(self, specialist_id: int) -> Specialist:
        """One of them: its loss so far, its scores before and after, its log."""
        return Specialist.model_validate(self.request("GET", f"/specialists/{specialist_id}"))

    def wait_for_specialist(self, specialist_id: int, *, timeout: float | None = None) -> Specialist:
        """The specialist once it is made, or has failed.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return self._ended(f"/specialists/{specialist_id}", Specialist, timeout)

    def chat(self, students: Sequence[int], question: str | None = None, **settings: Any) -> Chat:
        """Ask one or two students: `system`, `domain_id` with `question_id`, `temperature`, `top_p`, `max_tokens`, `samples`, `seed`."""
        body = {"students": list(students), "question": question, **settings}
        return Chat.model_validate(self.request("POST", "/chats", json=body))

    def chats(self, *, limit: int | None = None) -> Iterator[Chat]:
        """What students were asked, the newest first."""
        return self.items("/chats", Chat, limit=limit)

    def wait_for_chat(self, chat_id: int, *, timeout: float | None = None) -> Chat:
        """The chat once it has ended.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        return self._ended(f"/chats/{chat_id}", Chat, timeout)

    def cancel_job(self, job_id: int) -> None:
        """Give up a replay, a specialist or a chat."""
        self.request("POST", f"/jobs/{job_id}:cancel")

    def domains(self, *, limit: int | None = None) -> Iterator[shapes.DomainShape]:
        """Domains that experiments named, newest first."""
        return self.items("/domains", shapes.DomainShape, limit=limit)

    def workers(self) -> list[shapes.Worker]:
        """Workers that live."""
        return [shapes.Worker.model_validate(item) for item in (self.request("GET", "/workers"))["items"]]

    # ---------- webhooks ----------

    def webhooks(self, *, limit: int | None = None) -> Iterator[Webhook]:
        """Your webhooks, newest first."""
        return self.items("/webhooks", Webhook, limit=limit)

    def create_webhook(self, url: str, events: Sequence[WebhookEvent]) -> NewWebhookShape:
        """Tell `url` of `events`; the answer has the secret that checks signatures, this once."""
        body = {"url": url, "events": list(events)}
        return NewWebhookShape.model_validate(self.request("POST", "/webhooks", json=body))

    def change_webhook(self, webhook_id: int, **changes: Any) -> Webhook:
        """Another `url` or `events`, or `enabled` true or false."""
        return Webhook.model_validate(self.request("PATCH", f"/webhooks/{webhook_id}", json=changes))

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook with its deliveries."""
        self.request("DELETE", f"/webhooks/{webhook_id}")

    def ping_webhook(self, webhook_id: int) -> Delivery:
        """Send it a delivery that says nothing but that it came through."""
        return Delivery.model_validate(self.request("POST", f"/webhooks/{webhook_id}:ping"))

    def redeliver(self, webhook_id: int, delivery_id: int) -> Delivery:
        """Send a delivery again, under the same id."""
        path = f"/webhooks/{webhook_id}/deliveries/{delivery_id}:redeliver"
        return Delivery.model_validate(self.request("POST", path))

    def deliveries(self, webhook_id: int, *, limit: int | None = None) -> Iterator[Delivery]:
        """What it was told, newest first."""
        return self.items(f"/webhooks/{webhook_id}/deliveries", Delivery, limit=limit)

    def tries(self, webhook_id: int, delivery_id: int, *, limit: int | None = None) -> Iterator[DeliveryTry]:
        """Every request that was made for a delivery, newest first."""
        return self.items(f"/webhooks/{webhook_id}/deliveries/{delivery_id}/tries", DeliveryTry, limit=limit)

    # ---------- oneself ----------

    def me(self) -> Me:
        """Who you are to the service."""
        return Me.model_validate(self.request("GET", "/me"))

    def tokens(self, *, limit: int | None = None) -> Iterator[TokenShape]:
        """Your tokens, revoked and expired ones too, newest first."""
        return self.items("/tokens", TokenShape, limit=limit)

    def create_token(self, name: str, *, scope: Scope = "read", expires_at: datetime | None = None) -> NewTokenShape:
        """A new token; its text is shown this once. `expires_at` carries a time zone."""
        body = {"name": name, "scope": scope, "expires_at": expires_at.isoformat() if expires_at else None}
        return NewTokenShape.model_validate(self.request("POST", "/tokens", json=body))

    def revoke_token(self, token_id: int) -> None:
        """From now on it lets nobody in."""
        self.request("DELETE", f"/tokens/{token_id}")

    # ---------- underneath ----------

    def _act(self, run_id: int, verb: str, body: Mapping[str, Any] | None = None) -> shapes.Run:
        return shapes.Run.model_validate(self.request("POST", f"/runs/{run_id}:{verb}", json=body))

    def _ended(self, path: str, shape: type[S], timeout: float | None) -> S:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            told = self.request("GET", path)
            if told["ended_at"] is not None:
                return shape.model_validate(told)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not end in time.")
            time.sleep(1.0)

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise no_answer(self.url, error) from None
        if response.is_error:
            raise refusal(response)
        return response

    def _save(self, path: str, parameters: Filters, target: Path) -> int:
        """Stream an answer into a file, which stands under its name only once it is whole."""
        wanted = {name: value for name, value in parameters.items() if value is not None and value != ()}
        part = target.with_name(target.name + ".part")
        size = 0
        try:
            with self._http.stream("GET", path, params=wanted, timeout=httpx.Timeout(30.0, read=SILENCE_SECONDS)) as response:
                if response.is_error:
                    response.read()
                    raise refusal(response)
                with part.open("wb") as file:
                    for chunk in response.iter_bytes():
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


def _parts(path: Path) -> Iterator[bytes]:
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
