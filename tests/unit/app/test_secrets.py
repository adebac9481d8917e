"""Secrets are sealed where they are kept, and struck out where people read."""

from __future__ import annotations

import io
import logging
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from app.access.tables import SecretRow
from app.db import reading
from app.main import create_app
from app.secrets import hub_token, redaction, vault
from app.secrets.redaction import redact, redacted
from app.settings import Settings
from app.telemetry.structured_logs import make_handler
from opcod.errors import ResourceError

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql+psycopg://opcod:s3cr3t-pw@db:5432/opcod", "s3cr3t-pw"),
        ("redis://:onlypassword@cache/0", "onlypassword"),
        ("GET /x Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
        ("{'authorization': 'Bearer abc.def.ghi'}", "abc.def.ghi"),
        (f"401 for token {TOKEN}", TOKEN),
        ("opcod_" + "k" * 43 + " was used", "k" * 43),
        ("whsec_0123456789abcdef0123456789", "0123456789abcdef"),
        ("http://studio/links/" + "m" * 43, "m" * 43),
        ("https://bucket.s3/x?X-Amz-Signature=deadbeef&y=1", "deadbeef"),
    ],
)
def test_what_has_the_shape_of_a_secret_is_struck_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[secret]" in redact(text)


@pytest.mark.parametrize("text", ["run 3 of opcod_studio began", "https://user@host/path", "see /links for more", "a: b@c", "opcod:opcod"])
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


def test_known_values_are_struck_out_in_logs_tracebacks_and_what_libraries_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-looking-value")
    redaction.know_environment()
    for form in ("text", "json"):
        stream = io.StringIO()
        logger = logging.Logger("test")
        logger.addHandler(make_handler(form, stream))
        try:
            raise ValueError("server said: an-odd-looking-value is not valid")
        except ValueError:
            logger.exception("with %s", "an-odd-looking-value")
        assert "an-odd-looking-value" not in stream.getvalue()
        assert stream.getvalue().count("[secret]") >= 2
    stream = io.StringIO()
    wrapped = redacted(stream)
    print("half of an-odd-", end="", file=wrapped)
    print("looking-value, the rest", file=wrapped)
    print("10%\r20% an-odd-looking-value", end="\r", file=wrapped)
    wrapped.flush()
    assert stream.getvalue() == "half of [secret], the rest\n10%\r20% [secret]\r"


def test_the_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: vault.open_vault(settings), range(8)))
    assert {one.open(vaults[0].seal("x" * 20)) for one in vaults} == {"x" * 20}
    key = settings.home / vault.KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    os.chmod(key, 0o644)
    vault.open_vault(settings)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == [vault.KEY_FILE]
    key.write_text("no key")
    with pytest.raises(ResourceError, match="key file"):
        vault.open_vault(settings)


def test_another_key_opens_nothing_and_says_so(tmp_path: Path) -> None:
    one, other = (Settings(home=tmp_path, secret_key=letter * 32) for letter in "ab")
    sealed = vault.open_vault(one).seal("the text of a secret")
    assert "secret" not in sealed
    with pytest.raises(ResourceError) as refused:
        vault.open_vault(other).open(sealed)
    assert "OPCOD_SECRET_KEY" in refused.value.advice
    assert "a" * 32 not in repr(one)


def test_the_hub_token_is_kept_sealed_given_to_training_and_shown_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    settings = Settings(home=tmp_path)
    app = create_app(settings)
    with TestClient(app) as client:
        engine = app.state.engine
        assert hub_token.environment(engine, settings) == {}
        kept = client.post("/settings/studio/hub-token", data={"token": f" {TOKEN} "})
        assert kept.status_code == 200
        assert hub_token.environment(engine, settings) == {"HF_TOKEN": TOKEN}
        assert client.post("/settings/studio/hub-token", data={"token": "a b"}).status_code == 422
        shown = [client.get(path).text for path in ("/settings/studio", "/settings/audit", "/api/v1/audit")]
        assert all(TOKEN not in text for text in [kept.text, *shown])
        assert client.get("/api/v1/audit").json()["items"][-1]["action"] == "studio.hub-token"
        with reading(engine) as session:
            assert TOKEN not in str([row.model_dump() for row in session.exec(select(SecretRow)).all()])
        (tmp_path / vault.KEY_FILE).unlink()  # another machine, without the key
        assert hub_token.environment(engine, settings) == {}
        client.post("/settings/studio/hub-token", data={"forget": "yes"})
        assert "None is kept" in client.get("/settings/studio").text


def test_error_answers_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ResourceError(f"The hub refused {TOKEN}.")

    for function in ("run", "run_row"):
        monkeypatch.setattr(f"app.records.queries.{function}", refuse)
    app = create_app(Settings(home=tmp_path))
    with TestClient(app, raise_server_exceptions=False) as client:
        for path in ("/runs/1", "/api/v1/runs/1"):
            answer = client.get(path)
            assert answer.status_code == 422
            assert TOKEN not in answer.text
            assert "[secret]" in answer.text


def test_standard_streams_of_this_process_are_left_alone() -> None:
    assert not type(sys.stdout).__name__.startswith("_Redacted")
