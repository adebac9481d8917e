"""Filling prompt templates whose values are hostile text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each ``{name}`` of `values` replaced; all other braces stay as they are.

    One pass: a value that itself holds ``{name}`` is never filled again, so model text cannot reach
    into the prompt around it.
    """
    if not values:
        return template
    names = "|".join(re.escape(name) for name in values)
    return re.sub(r"\{(" + names + r")\}", lambda match: values[match.group(1)], template)


def missing_placeholders(template: str, needed: Iterable[str]) -> tuple[str, ...]:
    """Those of the needed names whose ``{name}`` does not stand in the template."""
    return tuple(name for name in needed if f"{{{name}}}" not in template)
