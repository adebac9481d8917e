"""How the first ones come in: the link that is printed at the start, and the command line for who is locked out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from fastapi.testclient import TestClient

from app.db import make_engine, migrate
from app.main import create_app
from app.settings import Settings
from tests.integration.studio import await_value
from tests.people import PASSWORD, csrf_in


def opcod(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, **environment}, check=False)


def test_whoever_is_locked_out_comes_in_by_the_command_line(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path))
    assert "no studio" in opcod("people", "list", *home).stderr
    migrate(engine := make_engine(f"sqlite:///{tmp_path / 'opcod.db'}"))
    engine.dispose()
    made = opcod("people", "invite", "--role", "admin", *home, OPCOD_PUBLIC_URL="https://studio.example")
    assert made.returncode == 0, made.stderr
    url = made.stdout.split()[0]
    assert url.startswith("https://studio.example/links/")
    app = create_app(Settings(home=tmp_path, auth="password", allowed_hosts=("testserver",)))
    browser = TestClient(app)
    path = url.removeprefix("https://studio.example")
    form = {"name": "ada", "password": PASSWORD, "csrf": csrf_in(browser.get(path))}
    assert browser.post(path, data=form, follow_redirects=False).status_code == 303
    assert opcod("people", "list", *home).stdout.split() == ["ada", "admin"]
    refused = opcod("people", "disable", "ada", *home)
    assert refused.returncode == 2
    assert "only admin" in refused.stderr
    assert opcod("people", "role", "nobody-here", "viewer", *home).returncode == 2
    reset = opcod("people", "reset", "ada", "--json", *home)
    assert browser.get(urlsplit(json.loads(reset.stdout)["url"]).path).status_code == 200
    assert [entry["means"] for entry in browser.get("/api/v1/audit?action=person.reset").json()["items"]] == ["command line"]
    app.state.engine.dispose()


def test_the_first_start_greets_its_admin(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {**os.environ, "OPCOD_HOME": str(tmp_path), "OPCOD_AUTH": "password"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            lines = list(islice(server.stdout, 2))
            link = next(word for word in " ".join(lines).split() if "/links/" in word)
            port = int(re.findall(r":(\d+)", lines[0])[-1])
            answer = await_value(lambda: _get(f"http://127.0.0.1:{port}{urlsplit(link).path}"), seconds=180, what="the server")
            assert "first admin" in answer
            assert urlsplit(link).port == port
        finally:
            server.terminate()


def _get(url: str) -> str | None:
    try:
        return httpx.get(url, timeout=60).text
    except httpx.TransportError:
        return None
