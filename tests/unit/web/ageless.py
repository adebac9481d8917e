"""Pages without how long ago things were: two that are asked for one after the other may differ in that."""

from __future__ import annotations

import re


def ageless(page: str) -> str:
    """The page without ages and white space."""
    return re.sub(r'\s+|data-age="\d+"|\d+ (s|min) ago|just now', "", page)
