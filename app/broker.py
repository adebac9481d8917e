"""The broker as a Redis client sees it. It fails at once where the broker is away: nobody waits for a bell."""

from __future__ import annotations

from functools import lru_cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 2


def redis_url(broker_url: str) -> str:
    """The broker's address as the redis client writes it (Celery says ``redis+socket://`` where it says ``unix://``)."""
    return "unix://" + broker_url.removeprefix("redis+socket://") if broker_url.startswith("redis+socket://") else broker_url


@lru_cache(maxsize=4)
def client(broker_url: str) -> redis.Redis:
    """The process's client: tries once more at once, for a connection that has gone stale, then gives up."""
    return redis.Redis.from_url(
        redis_url(broker_url), socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 1)
    )
