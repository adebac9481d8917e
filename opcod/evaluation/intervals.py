"""How sure one may be of a share that was counted."""

from __future__ import annotations

import math

Z_95 = 1.959964


def wilson(right: int, samples: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent samples (Wilson, 1927); it holds for few samples, and for none or all of them right."""
    z2 = Z_95**2
    middle, width = (right + z2 / 2) / (samples + z2), Z_95 * math.sqrt(right * (samples - right) / samples + z2 / 4) / (samples + z2)
    return max(0.0, middle - width), min(1.0, middle + width)
