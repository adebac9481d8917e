"""Reading a number with its unit, as people and models write it."""

from __future__ import annotations

import math
import re
import unicodedata

MAX_CHARACTERS = 200

_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴-⁹⁺⁻]+")
_SUPERSCRIPT_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_MARKUP = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|rm)\b"), " "),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\(?:approx|simeq|sim)\b"), "≈"),
    (re.compile(r"\\(?:left|right)\b|\\[()\[\]]|[${}*]{1,2}(?=\s*\Z)|\A[$*]{1,2}|[{}]|\\(?=%)"), ""),
    (re.compile(r"\\[,;:! ]|~"), " "),
    (re.compile(r"[−–‐‑]"), "-"),
)
_ABOUT = re.compile(r"(?:≈|[€£¥]|(?:about|approximately|approx\.?|circa|ca\.)\s)\s*", re.IGNORECASE)
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER = r"10\s*(?:\^|\*\*)\s*\(?([-+]?\d{1,4})\)?"
_TEN_TO = re.compile(rf"([-+]?)\s*{_POWER}")
_FRACTION = re.compile(rf"([-+]?)\s*\(?\s*([-+]?{_PLAIN})\s*\)?\s*[/⁄]\s*\(?\s*({_PLAIN})\s*\)?")
_DECIMAL = re.compile(rf"([-+]?)\s*({_PLAIN})(?:[eE]([-+]?\d{{1,4}})(?!\d)|\s*[×*x·]\s*{_POWER})?")
_UNIT = re.compile(r"\s*(?:(?:[^\W\d_]|[%°'\"(]|[·/]\s?[^\W\d_]).*)?[.\s]*", re.DOTALL)
_ANOTHER = re.compile(r"\s[-+]?\d|[,;=]")


def parse_number(text: str) -> float | None:
    r"""The number that the text gives, its unit stripped; None where it gives none, or more than one.

    Understood: ``-4``, ``1,200``, ``1 200``, ``1.5e3``, ``3 \times 10^{4}``, ``10^-3``, ``3/4``, ``\frac{1}{2}``, ``½``, a unit after
    the number (``42 kJ/mol``, ``9.8 m s^-2``), a name or a sign before it (``E = 5 J``, ``≈ 3``). Units are not
    converted, and a percent sign is one: ``50%`` is 50. A decimal comma (``3,14``) is not guessed at.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    before, _, plain = _unmarked(text).rpartition("=")
    if re.search(r"[,;]\s", before):
        return None
    plain = plain.strip()
    plain = plain[found.end() :] if (found := _ABOUT.match(plain)) else plain
    try:
        value, rest = _leading_value(plain)
    except (OverflowError, ZeroDivisionError):
        return None
    alone = _UNIT.fullmatch(rest) and not _ANOTHER.search(rest)
    return value if value is not None and alone and math.isfinite(value) else None


def _unmarked(text: str) -> str:
    text = _VULGAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match.group())}", text)
    text = _SUPERSCRIPT.sub(lambda match: f"^{match.group().translate(_SUPERSCRIPT_DIGITS)}", text)
    text = unicodedata.normalize("NFKC", text)
    for markup, plain in _MARKUP:
        text = markup.sub(plain, text)
    return text.strip()


def _leading_value(plain: str) -> tuple[float | None, str]:
    if match := _TEN_TO.match(plain):
        sign, power = match.groups()
        value = float(f"1e{power}")
    elif match := _FRACTION.match(plain):
        sign, numerator, denominator = match.groups()
        value = float(_bare(numerator)) / float(_bare(denominator))
    elif match := _DECIMAL.match(plain):
        sign, mantissa, exponent, power = match.groups()
        value = float(f"{_bare(mantissa)}e{exponent or power or 0}")
    else:
        return None, plain
    return -value if sign == "-" else value, plain[match.end() :]


def _bare(digits: str) -> str:
    return digits.replace(",", "").replace(" ", "")
