"""Every random draw of a run follows from its seed and from what the draw is for.

Seeds are derived, not drawn one from another: a step's numbers depend on the run's seed, the student
and the step alone, so a resumed run continues with the very numbers it would have had.
"""

from __future__ import annotations

import hashlib
from random import Random


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, independent of every other purpose's."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derived_random(seed: int, *purpose: str | int) -> Random:
    """Python's generator, seeded for one purpose."""
    return Random(derive_seed(seed, *purpose))
