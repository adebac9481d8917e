"""Passwords: argon2id, checked in the same time whether or not there is anything to check against."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import Fault, Invalid

SHORTEST, LONGEST = 10, 256
_HASHER = PasswordHasher()
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each check takes 64 MiB and a core for a moment: a crowd of them must not take the machine."""


def hash_password(password: str) -> str:
    """What is kept of a password."""
    with _AT_ONCE:
        return _HASHER.hash(_normal(password))


def is_right(password: str, kept: str | None) -> bool:
    """Whether `password` is the one that `kept` was made of; None takes as long and is always wrong."""
    if len(password) > LONGEST:
        password, kept = "", None
    try:
        with _AT_ONCE:
            _HASHER.verify(kept or _nobodys(), _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


def needs_rehash(kept: str) -> bool:
    """Whether it was made with weaker settings than today's."""
    return _HASHER.check_needs_rehash(kept)


def check_new(password: str, name: str, field: str = "password") -> None:
    """See that a password can be one.

    Raises:
        Invalid
    """
    message = ""
    if len(password) < SHORTEST:
        message = f"It has {len(password)} characters; at least {SHORTEST} are needed."
    elif len(password) > LONGEST:
        message = f"It is longer than {LONGEST} characters."
    elif len(set(password.casefold())) < 5:
        message = "It repeats the same few characters."
    elif name and name.casefold() in password.casefold() and len(password) < len(name) + SHORTEST:
        message = "It holds your name and little else."
    if message:
        raise Invalid([Fault(field, message, "A few unrelated words in a row are easy to keep in mind and hard to guess.")])


def _normal(password: str) -> str:
    """The same text typed on another keyboard is the same password."""
    return unicodedata.normalize("NFKC", password.encode("utf-8", "replace").decode("utf-8"))


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody has this password")
