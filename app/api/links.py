"""What an answer leads to: OpenAPI links, from creation through reading to the end of a thing's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ID = "$response.body#/id"

RUN_VERBS = ("read", "change", "pause", "stop", "resume", "retry", "clone", "move", "delete", "transitions", "report")
RUN_RECORDS = (
    "metrics",
    "metric_names",
    "evaluations",
    "gate_decisions",
    "break_rescue",
    "checkpoints",
    "log",
    "export_metrics",
    "curves",
    "tallies",
    "histograms",
    "alerts",
)

LINKS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "experiments_create": (("experiments_read", "experiment_id", ID), ("experiments_start", "experiment_id", ID)),
    **{
        source: tuple((f"runs_{verb}", "run_id", ID) for verb in RUN_VERBS)
        + tuple((f"records_{name}", "run_id", ID) for name in RUN_RECORDS)
        + (("exchanges_exchanges", "run_id", ID), ("exchanges_export", "run_id", ID))
        for source in ("experiments_start", "runs_clone", "runs_retry")
    },
    "runs_stop": (("runs_resume", "run_id", ID), ("runs_retry", "run_id", ID), ("runs_delete", "run_id", ID)),
    "runs_pause": (("runs_resume", "run_id", ID), ("runs_stop", "run_id", ID)),
    "experiments_preflight": (("experiments_read_preflight", "preflight_id", ID), ("experiments_preflight_runs", "preflight_id", ID)),
    "sweeps_launch": (("sweeps_read", "sweep_id", ID), ("sweeps_table", "sweep_id", ID), ("sweeps_stop", "sweep_id", ID)),
    "exchanges_exchanges": (
        ("exchanges_exchange", "exchange_id", "$response.body#/items/0/id"),
        ("exchanges_put_label", "exchange_id", "$response.body#/items/0/id"),
        ("exchanges_label_list", "exchange_id", "$response.body#/items/0/id"),
    ),
    "webhooks_create": (
        ("webhooks_read", "webhook_id", ID),
        ("webhooks_change", "webhook_id", ID),
        ("webhooks_ping", "webhook_id", ID),
        ("webhooks_deliveries", "webhook_id", ID),
        ("webhooks_delete", "webhook_id", ID),
    ),
    "webhooks_ping": (("webhooks_read", "webhook_id", "$request.path.webhook_id"),),
    "library_create_upload": tuple((f"library_{verb}_upload", "upload_id", ID) for verb in ("read", "check", "save", "delete")),
    "access_token_create": (("access_token_delete", "token_id", ID),),
}
"""Operation -> (operation that it leads to, that one's parameter, where its value stands in the answer)."""
