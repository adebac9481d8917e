"""Work that a server does again and again beside its answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError

from opcod.errors import UserError

logger = logging.getLogger(__name__)


async def again_and_again(what: str, work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """`work` for ever: at once where it returns something true, for there is more to do, else after `seconds`.

    A database or a store that is away is waited for. No error ends it: what it does would be left undone until the next
    start, and nobody would know. `what` is it called in the log.
    """
    while True:
        more = False
        try:
            more = bool(await work())
        except (SQLAlchemyError, UserError) as error:
            logger.warning("%s: not now, but in %g s: %s", what, seconds, error)
        except Exception:
            logger.exception("%s: failed, and will be tried again in %g s", what, seconds)
        await asyncio.sleep(0 if more else seconds)
