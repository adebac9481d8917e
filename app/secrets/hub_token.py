"""The token by which the model hub knows us: from the environment, or kept in the vault by an admin."""

from __future__ import annotations

import logging
import os
import re
from typing import Literal

from sqlalchemy import Engine
from sqlmodel import Session

from app.db import reading
from app.errors import Fault, Invalid
from app.secrets import vault
from app.settings import Settings
from opcod.errors import ResourceError

logger = logging.getLogger(__name__)

NAME = "hub_token"
VARIABLE = "HF_TOKEN"
Source = Literal["environment", "stored", ""]
_TOKEN = re.compile(r"[!-~]{8,500}")


def source(session: Session) -> Source:
    """Where the token comes from, as far as this process knows; "" for nowhere."""
    return "environment" if os.environ.get(VARIABLE) else "stored" if vault.is_kept(session, NAME) else ""


def keep(session: Session, settings: Settings, token: str, *, by: str) -> None:
    """Keep a token.

    Raises:
        Invalid: it cannot be one.
    """
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        raise Invalid([Fault("token", "That cannot be a token.", "Copy it whole from the hub's settings.")])
    vault.keep(session, vault.open_vault(settings), NAME, token, by=by)


def environment(engine: Engine, settings: Settings) -> dict[str, str]:
    """What a training process is given so that the hub knows it. A token of the environment goes first, and is there anyway."""
    if os.environ.get(VARIABLE):
        return {}
    try:
        with reading(engine) as session:
            token = vault.fetch(session, settings, NAME)
    except ResourceError as error:
        logger.warning("Training goes on without the hub token: %s", error)
        return {}
    return {VARIABLE: token} if token else {}
