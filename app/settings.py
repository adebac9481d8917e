"""Settings of the service, read from the environment (prefix ``OPCOD_``)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.telemetry.structured_logs import LogFormat
from opcod.errors import ConfigError

PREFIX = "OPCOD_"
S = TypeVar("S", bound="Settings")

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(lambda given: _names(given))]
"""Several words in one variable."""


def _names(given: Any) -> Any:
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


class Settings(BaseSettings):
    """Where the service keeps its things and where it listens."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    home: Path = Field(Path("~/.opcod"), description="Folder that holds everything: database, runs, broker socket.", validate_default=True)
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the home folder.")
    broker_url: str = Field("", description="`redis://...` or `redis+socket:///path`; empty: no broker, workers poll.")
    store_url: str = Field(
        "",
        description="Where artefacts (checkpoints, exports, logs) are kept for all machines: `s3://BUCKET/PREFIX` or `file:///FOLDER`; "
        "empty: the folder `runs` in the home folder.",
    )
    disk_budget_gib: float = Field(
        0.0, description="GiB that all runs' artefacts may take; above it no new run starts, at 80 % there is a warning. 0: no limit.", ge=0
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, description="Port to listen on.", ge=0, le=65_535)
    processes: int = Field(1, description="Server processes that share the address. One keeps one core busy.", ge=1, le=64)
    request_threads: int = Field(
        8,
        description="Requests that each server process works on at once. They share a core: more make all slower.",
        ge=2,
        le=200,
    )
    lease_seconds: float = Field(30.0, description="How long a worker's claim holds without a heartbeat.", gt=0)
    log_format: LogFormat = Field("text", description="`text` for people, `json` for a collector of logs: one object a line.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level that is logged.")
    log_requests: bool = Field(False, description="Log a line for every request.")
    reap_seconds: float = Field(3.0, description="How often lapsed leases and unclaimed runs are looked for.", gt=0)
    auth: Literal["none", "password"] = Field(
        "none", description="`none`: whoever sits at this machine may do everything, nobody else anything. `password`: people sign in."
    )
    public_url: str = Field(
        "", description="Address that people type, such as `https://studio.example.org`, where a proxy stands before the server."
    )
    allowed_hosts: Names = Field((), description="Host names that the server answers to, beside this machine's own; commas between them.")
    trusted_proxies: str = Field("", description="Addresses of proxies whose X-Forwarded-For and -Proto are believed; commas between them.")
    session_idle_hours: float = Field(72.0, description="A browser that asks nothing for so long is signed out.", gt=0)
    session_days: float = Field(30.0, description="A browser is signed out after so long, whatever it asks.", gt=0)
    roots: Names = Field(
        (),
        description="Folders that experiments may name files in; commas between them. Empty: all of them with OPCOD_AUTH=none, "
        "`library` and `runs` of the home folder otherwise.",
    )
    body_megabytes: float = Field(4.0, description="Largest body of a request, uploads excepted.", gt=0)
    upload_megabytes: float = Field(1024.0, description="Largest upload.", gt=0)
    body_seconds: float = Field(30.0, description="Longest pause within a request's body.", gt=0)
    connections: int = Field(2000, description="Requests and live streams at once; more are refused with 503.", ge=1)
    secret_key: SecretStr | None = Field(
        None,
        description="Seals secrets in the database; at least 32 random characters. Empty: `secret.key` in the home folder, made there.",
    )
    outbound_allow: Names = Field(
        (),
        description="Private hosts and networks that webhooks and students' servers may be at all the same: "
        "`hooks.lan,10.0.0.0/8`; commas between them.",
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("broker_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("must be redis://HOST:PORT/DB, rediss://... or redis+socket:///PATH")
        return value

    @field_validator("store_url")
    @classmethod
    def _store(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("s3", "file") or parts.username or parts.password or parts.query:
            raise ValueError("must be s3://BUCKET/PREFIX or file:///FOLDER; credentials belong in AWS_ACCESS_KEY_ID and the like")
        if not (parts.netloc if parts.scheme == "s3" else parts.path.strip("/")):
            raise ValueError("must name a bucket or a folder")
        return value.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query):
            raise ValueError("must be a scheme and a host, such as https://studio.example.org")
        return value.rstrip("/")

    @field_validator("secret_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return value

    @model_validator(mode="after")
    def _derived(self) -> Settings:
        if not self.database_url:
            self.database_url = f"sqlite:///{self.home / 'opcod.db'}"
        for plain in ("postgres://", "postgresql://"):
            if self.database_url.startswith(plain):
                self.database_url = "postgresql+psycopg://" + self.database_url.removeprefix(plain)
        if self.store_url.startswith("file:") and Path(unquote(urlsplit(self.store_url).path)).resolve() == self.runs_folder.resolve():
            self.store_url = ""  # nothing to copy
        return self

    @property
    def library_folder(self) -> Path:
        """Data and models that people bring."""
        return self.home / "library"

    @property
    def uploads_folder(self) -> Path:
        """Files of domains as people brought them."""
        return self.library_folder / "uploads"

    @property
    def domains_folder(self) -> Path:
        """Domains made of them, as training reads them."""
        return self.library_folder / "domains"

    @property
    def runs_folder(self) -> Path:
        """Parent of every run's folder (checkpoints, exports, log)."""
        return self.home / "runs"

    def run_folder(self, name: str) -> Path:
        """Folder of one run, from the relative name that its row keeps."""
        return self.runs_folder / name

    def job_folder(self, job_id: int) -> Path:
        """What a job fetches to this machine."""
        return self.home / "jobs" / str(job_id)


class WorkerSettings(Settings):
    """How this worker runs its training processes."""

    worker_labels: str = Field(
        "", description="What this worker serves, such as `gpu`; empty: `gpu,cpu` where there is a GPU, otherwise `cpu`."
    )
    drain_seconds: float = Field(60.0, description="How long a worker that is stopped waits for its run's next checkpoint.", ge=0)
    patience_seconds: float = Field(60.0, description="How long a database that does not answer is waited for.", gt=0)
    store_patience_seconds: float = Field(
        3600.0, description="How long a store that does not answer is waited for before the run fails; it trains on meanwhile.", gt=0
    )
    ship_seconds: float = Field(2.0, description="How often the run's log and new checkpoints are shipped to the store.", gt=0)
    log_mib: float = Field(64.0, description="MiB that a run's log may take; beyond, parts of its middle are cut, and it says so.", gt=0)


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once.

    Raises:
        ConfigError: a variable has a value that it cannot have.
    """
    return read_settings(Settings)


def read_settings(kind: type[S], **given: Any) -> S:
    """Settings from the environment; what is `given` goes before it.

    Raises:
        ConfigError: a variable has a value that it cannot have.
    """
    try:
        return kind(**given)
    except (ValidationError, SettingsError) as error:
        faults = [fault for fault in error.errors() if fault["loc"]] if isinstance(error, ValidationError) else []
        told = [f"{PREFIX}{fault['loc'][0]}".upper() + ": " + fault["msg"].removeprefix("Value error, ") for fault in faults]
        raise ConfigError("; ".join(told) or str(error), advice="`opcod settings` lists them all, with their defaults.") from None
