"""A studio of its own for each test module, and a page that tolerates no script error and nothing that the security policy refused."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, expect
from sqlalchemy import Engine

from app.db import migrate
from app.main import create_app
from app.settings import Settings

PATIENCE_MS = 60_000
"""How long a page may take where other tests keep the cores busy; one that is fast costs nothing of it."""
LEAVING = ("htmx:sendAbort", "htmx:afterRequest")
"""What htmx says of a request under way when the page is left; of one that fails it says more."""
expect.set_options(timeout=PATIENCE_MS)


class Site:
    """The web application at a fixed address; it can be stopped and started again, as servers are."""

    def __init__(self, home: Path, auth: Literal["none", "password"] = "none") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = Settings(home=home, host="127.0.0.1", port=self.port, auth=auth)
        self._server: uvicorn.Server | None = None
        self.start()

    @property
    def engine(self) -> Engine:
        engine: Engine = self.app.state.engine
        return engine

    def start(self) -> None:
        self.app = create_app(self.settings)
        migrate(self.app.state.engine)
        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 120
        while not self._server.started:
            assert time.monotonic() < deadline, "the server took too long to start"
            time.sleep(0.01)

    def stop(self) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.stop()


@pytest.fixture
def expect_console() -> list[str]:
    """Parts of console messages that a test brings about on purpose."""
    return []


@pytest.fixture
def page(new_context: Callable[..., BrowserContext], site: Site, expect_console: list[str]) -> Iterator[Page]:
    context = new_context(base_url=site.url)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    troubles: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in (*LEAVING, *expect_console)):
            troubles.append(message.text)

    def refuse(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", hear)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", refuse)
    yield page
    assert troubles == []


@pytest.fixture(scope="session")
def base_url() -> str:
    """In place of the plugin's own, at which pytest warns. Pages get their site's address instead."""
    return ""
