"""Random marks that let somebody in: session cookies, API tokens, links. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
from secrets import token_urlsafe

TOKEN_PREFIX = "opcod_"
"""Begins every API token, so that scanners for leaked secrets, and our own logs, know one when they see it."""
SHOWN = len(TOKEN_PREFIX) + 6


def new_mark() -> str:
    """256 random bits as text for addresses and cookies."""
    return token_urlsafe(32)


def hashed(mark: str) -> str:
    """What is kept of a mark. A plain hash is enough for 256 random bits, and can be looked up."""
    return hashlib.sha256(mark.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_token(mark: str) -> str:
    """What a page of the session with this mark sends along with a form; other sites cannot know it."""
    return hmac.new(mark.encode("utf-8", "surrogatepass"), b"csrf", hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
