"""What each request needs, and what the audit log calls it."""

from __future__ import annotations

import pytest

from app.access.rules import Need, action_of, changed, need_of


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/static/app.css", "nothing"),
        ("POST", "/login", "nothing"),
        ("GET", "/links/abc", "nothing"),
        ("GET", "/api/v1/health/ready", "nothing"),
        ("GET", "/", "read"),
        ("GET", "/metrics", "read"),
        ("HEAD", "/anything/new", "read"),
        ("POST", "/anything/new", "write"),
        ("PURGE", "/anything/new", "write"),
        ("POST", "/settings/password", "own"),
        ("DELETE", "/api/v1/tokens/3", "own"),
        ("GET", "/settings/people", "admin"),
        ("PATCH", "/api/v1/people/ada", "admin"),
        ("GET", "/api/v1/audit", "admin"),
        ("POST", "/api/v1/runs/3:move", "admin"),
        ("POST", "/api/v1/runs/3.0:move", "admin"),
        ("POST", "/runs/0000000003/move", "admin"),
        # one's own, yet it tells others: as under REST
        ("POST", "/settings/webhooks", "write"),
        ("POST", "/settings/webhooks/1/delete", "write"),
        ("GET", "/settings/webhooks", "read"),
        # names that only begin like an open or a kept one
        ("POST", "/loginx", "write"),
        ("GET", "/staticx", "read"),
        ("GET", "/api/v1/healthy", "read"),
        ("POST", "/settingsx", "write"),
        ("GET", "/LOGIN", "read"),
        ("GET", "//login", "read"),
    ],
)
def test_a_request_needs(method: str, path: str, need: Need) -> None:
    assert need_of(method, path) == need


@pytest.mark.parametrize(
    ("method", "path", "thing"),
    [
        ("POST", "/runs/3/stop", ("runs", 3)),
        ("POST", "/api/v1/runs/3:stop", ("runs", 3)),
        ("PATCH", "/api/v1/runs/3", ("runs", 3)),
        ("DELETE", "/api/v1/runs/3/checkpoints/9", ("runs", 3)),
        ("POST", "/api/v1/sweeps/4:stop", ("sweeps", 4)),
        ("POST", "/api/v1/runs/3:clone", None),
        ("GET", "/api/v1/runs/3", None),
        ("POST", "/api/v1/runs", None),
        ("POST", "/api/v1/runs/99999999999999999999:stop", ("runs", None)),
        # what a route reads as a number, though it is not written as one
        ("POST", "/runs/0000000003/stop", ("runs", None)),
        ("POST", "/api/v1/runs/3.0:stop", ("runs", None)),
        ("PATCH", "/api/v1/runs/+3", ("runs", None)),
        ("PATCH", "/api/v1/runs/ 3", ("runs", None)),
        ("PATCH", "/api/v1/runs/3\n", ("runs", None)),
        ("POST", "/api/v1/runs/3:clone:stop", None),
        ("POST", "/experiments/form", None),
    ],
)
def test_what_a_request_would_change(method: str, path: str, thing: tuple[str, int | None] | None) -> None:
    assert changed(method, path) == thing


@pytest.mark.parametrize(
    ("method", "route", "path", "action", "thing"),
    [
        ("POST", "/api/v1/runs/{run_id}:stop", "/api/v1/runs/3:stop", "run.stop", "run 3"),
        ("POST", "/runs/{run_id:int}/stop", "/runs/3/stop", "run.stop", "run 3"),
        ("POST", None, "/runs/3/stop", "run.stop", "run 3"),
        ("DELETE", "/runs/{run_id}", "/api/v1/runs/3", "run.delete", "run 3"),
        ("POST", "/experiments/{experiment_id}/runs", "/api/v1/experiments/5/runs", "run.create", "experiment 5"),
        ("POST", "/experiments", "/experiments", "experiment.create", ""),
        ("DELETE", "/tokens/{token_id}", "/api/v1/tokens/4", "token.delete", "token 4"),
        ("POST", "/settings/tokens", "/settings/tokens", "token.create", ""),
        ("POST", "/settings/tokens/{token_id:int}/revoke", "/settings/tokens/4/revoke", "token.revoke", "token 4"),
        ("PATCH", "/people/{name}", "/api/v1/people/ada", "person.change", "person ada"),
        ("POST", None, "/api/v1/people/ada:reset", "person.reset", "person ada"),
        ("POST", "/people", "/api/v1/people", "person.invite", ""),
        ("POST", "/settings/password", "/settings/password", "password", ""),
        ("POST", "/logout", "/logout", "logout", ""),
    ],
)
def test_the_audit_log_calls_it(method: str, route: str | None, path: str, action: str, thing: str) -> None:
    assert action_of(method, route, path) == (action, thing)
