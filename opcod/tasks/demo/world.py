"""The facts of the built-in world, and which student is taught which of them.

Two domains that share no fact: densities of 23 materials (in tenths of a gram per cubic centimetre, rounded)
and proton counts of 23 elements. Knowing one says nothing of another, so a student that was not taught a fact
can only guess it, or be told.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from opcod.errors import DataError

FACTS: Final[Mapping[str, Mapping[str, int]]] = {
    "densities": {
        "ice": 9, "water": 10, "amber": 11, "nylon": 12, "coal": 13, "honey": 14, "sand": 15, "sugar": 16, "clay": 17, "bone": 18,
        "brick": 19, "opal": 21, "salt": 22, "gypsum": 23, "concrete": 24, "glass": 25, "quartz": 26, "marble": 27, "slate": 28,
        "basalt": 29, "jade": 33, "diamond": 35, "ruby": 40,
    },
    "protons": {
        "fluorine": 9, "neon": 10, "sodium": 11, "magnesium": 12, "silicon": 14, "phosphorus": 15, "sulfur": 16, "chlorine": 17,
        "argon": 18, "potassium": 19, "calcium": 20, "titanium": 22, "chromium": 24, "iron": 26, "cobalt": 27, "nickel": 28,
        "copper": 29, "zinc": 30, "arsenic": 33, "bromine": 35, "krypton": 36, "strontium": 38, "zirconium": 40,
    },
}  # fmt: skip
"""Domain -> name -> value."""

GUESSES: Final = range(9, 41)
"""Where values lie; what a student says of a fact that it was not taught."""

LACKING_NATIVE: Final = 3
LACKING_OTHER: Final = 6
NOVICE_TAUGHT: Final[Mapping[str, int]] = {"densities": 11, "protons": 8}

STUDENTS: Final = ("densities", "protons", "novice")
"""Two specialists, named for the domain that each is stronger in, and one student that is weak on both."""


def taught(student: str, seed: int = 0) -> dict[str, frozenset[str]]:
    """Names of the facts that a student is taught, by domain, in the world `seed`.

    A specialist lacks 3 of its own domain's 23 facts and 6 of the other's, and what one specialist lacks the
    other knows. The novice knows 11 and 8, drawn without regard to what the specialists know.

    Raises:
        DataError: there is no such student.
    """
    if student not in STUDENTS:
        raise DataError(f"The demo has no student {student!r}.", advice=f"Choose one of {', '.join(STUDENTS)}.")
    known = {}
    for domain, facts in FACTS.items():
        names = sorted(facts)
        random.Random(f"demo world {seed}: {domain}").shuffle(names)
        if student == "novice":
            known[domain] = frozenset(random.Random(f"demo novice {seed}: {domain}").sample(names, NOVICE_TAUGHT[domain]))
        else:
            lacking = names[:LACKING_NATIVE] if student == domain else names[LACKING_NATIVE : LACKING_NATIVE + LACKING_OTHER]
            known[domain] = frozenset(names) - frozenset(lacking)
    return known
