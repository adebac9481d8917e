"""Secrets that have to be read again, such as a hub token: sealed in the database, the key beside it in a file or the environment.

A copy of the database alone gives nothing away; without its key it is also of no use here. See docs/operate.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from cryptography.fernet import Fernet, InvalidToken
from sqlmodel import Session

from app.access.tables import SecretRow
from app.db import now
from app.secrets.redaction import know
from app.settings import Settings
from opcod.errors import ResourceError

KEY_FILE = "secret.key"


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    def seal(self, text: str) -> str:
        """The text, sealed."""
        know([text])
        return self._fernet.encrypt(text.encode("utf-8")).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text again. From now on logs do not show it.

        Raises:
            ResourceError: it was sealed with another key.
        """
        try:
            text = self._fernet.decrypt(sealed.encode("ascii")).decode("utf-8")
        except InvalidToken:
            advice = f"Bring back {KEY_FILE} of the home folder, or OPCOD_SECRET_KEY, as they were; or give the secret anew."
            raise ResourceError("A stored secret was sealed with another key.", advice=advice) from None
        know([text])
        return text


def open_vault(settings: Settings) -> Vault:
    """The vault of this installation. Its key is `OPCOD_SECRET_KEY`, or a file in the home folder that is made when it is first needed.

    Raises:
        ResourceError: the file cannot be read or made.
    """
    if settings.secret_key is not None:
        given = settings.secret_key.get_secret_value()
        know([given])
        return Vault(base64.urlsafe_b64encode(hashlib.sha256(b"opcod vault\0" + given.encode("utf-8")).digest()))
    path = settings.home / KEY_FILE
    try:
        key = _read_or_make(path)
        return Vault(key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no key"
        raise ResourceError(f"The key file {path} cannot be used: {reason}.", advice="Mend it, or set OPCOD_SECRET_KEY.") from None


def _read_or_make(path: Path) -> bytes:
    """The key; of processes that make it at once, the first wins."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{token_hex(8)}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        try:
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path.read_bytes().strip()


def keep(session: Session, vault: Vault, name: str, text: str, *, by: str) -> None:
    """Keep a secret in place of the one that had its name."""
    row = session.get(SecretRow, name) or SecretRow(name=name, sealed="", changed_by=by)
    row.sealed, row.changed_by, row.changed_at = vault.seal(text), by, now()
    session.add(row)


def forget(session: Session, name: str) -> None:
    """Keep it no longer."""
    row = session.get(SecretRow, name)
    if row is not None:
        session.delete(row)


def is_kept(session: Session, name: str) -> bool:
    """Whether there is one."""
    return session.get(SecretRow, name) is not None


def fetch(session: Session, settings: Settings, name: str) -> str | None:
    """The secret; None where there is none.

    Raises:
        ResourceError: it cannot be opened.
    """
    row = session.get(SecretRow, name)
    return None if row is None else open_vault(settings).open(row.sealed)
