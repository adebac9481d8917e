"""Non-negative least squares on relative errors, for a handful of weights, without numpy: the web server has none."""

from __future__ import annotations

from collections.abc import Sequence

SWEEPS = 400
"""Of coordinate descent; with the few columns here it has long converged by then."""


def fit(
    rows: Sequence[Sequence[float]],
    seconds: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    towards: Sequence[float] | None = None,
    pull: float = 0.0,
) -> list[float]:
    """Weights θ >= 0 that minimise the sum of w (1 - xθ / y)² + pull Σ_j (x̄_j (θ_j - towards_j))².

    Errors are relative: a short step counts as much as a long one. `pull` draws towards weights known before, in units of
    as many observations.
    """
    weights = weights or [1.0] * len(rows)
    scaled = [[value / y for value in row] for row, y in zip(rows, seconds, strict=True)]
    columns = len(towards) if towards is not None else len(rows[0])
    means = [sum(row[j] for row in scaled) / len(scaled) for j in range(columns)]
    used = [j for j in range(columns) if means[j] > 0]
    share = {j: [row[j] / means[j] for row in scaled] for j in used}  # every column with mean 1: θ_j x̄_j is its share of the time
    before = {j: (towards[j] * means[j] if towards is not None else 0.0) for j in used}
    gram = {(j, k): sum(w * a * b for w, a, b in zip(weights, share[j], share[k], strict=True)) for j in used for k in used}
    right = {j: sum(w * a for w, a in zip(weights, share[j], strict=True)) + pull * before[j] for j in used}
    found = {j: before[j] if towards is not None else 1 / len(used) for j in used}
    for _ in range(SWEEPS):
        for j in used:
            others = sum(gram[j, k] * found[k] for k in used if k != j)
            found[j] = max(0.0, (right[j] - others) / (gram[j, j] + pull))
    known = list(towards) if towards is not None else [0.0] * columns
    return [found[j] / means[j] if j in found else known[j] for j in range(columns)]


def scale(predicted: Sequence[float], seconds: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The factor s that minimises the relative errors of s times the predictions."""
    weights = weights or [1.0] * len(predicted)
    ratios = [p / y for p, y in zip(predicted, seconds, strict=True)]
    return sum(w * r for w, r in zip(weights, ratios, strict=True)) / sum(w * r * r for w, r in zip(weights, ratios, strict=True))
