"""Who may tutor whom, on what: the cognizance gate (paper Eq. 2, Figure 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opcod.config import GateConfig
from opcod.types import Algorithm, GateDecision, GateStrategy, Scores

_ROUNDING = 1e-9
"""A gap that equals tau on paper must not miss it by a rounding error: 1 - 0.7 exceeds 0.3 in binary."""


def cognizance_gaps(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Each student's gap Δ_i = Σ_d (s*_d - s_i,d) / s*_d, where s*_d is the best score on d (paper Eq. 2).

    Args:
        scores: student -> domain -> validation score, in any unit. All students share the domains.

    A domain on which nobody scores (s*_d = 0) adds 0: there is nothing to be behind of.

    Raises:
        ValueError: the students' domains differ, or a score is negative or not finite.
    """
    domains = _shared_domains(scores)
    best = {domain: max(of[domain] for of in scores.values()) for domain in domains}
    return {
        student: math.fsum((best[domain] - of[domain]) / best[domain] for domain in domains if best[domain] > 0)
        for student, of in scores.items()
    }


def decide(gate: GateConfig, scores: Mapping[str, Scores], *, round: int, algorithm: Algorithm) -> tuple[GateDecision, ...]:
    """The decision on every student for this round, in the order of `scores`.

    - ``cognizance``: all domains where gap <= tau, else none (Eq. 2).
    - ``always``, ``never``: all domains, none.
    - ``domain_selective``: as ``cognizance``, but an incognizant tutor keeps the domains where it scores
      highest of its own scores (Figure 7). Ties keep all of them; a score of 0 is nobody's strength.

    The baselines have no tutors: for ``sdpo`` and ``grpo`` every gate is shut, recorded as ``never``;
    gaps are still reported.

    Raises:
        ValueError: as `cognizance_gaps`.
    """
    strategy: GateStrategy = gate.strategy if algorithm == "opcod" else "never"
    decisions = []
    for student, gap in cognizance_gaps(scores).items():
        cognizant = gap <= gate.threshold + _ROUNDING
        domains = _open_domains(strategy, cognizant, scores[student])
        decisions.append(GateDecision(round, student, strategy, gap, gate.threshold, cognizant, domains))
    return tuple(decisions)


def choose_tutor(decisions: Sequence[GateDecision], scores: Mapping[str, Scores], tutee: str, domain: str) -> str | None:
    """The peer whose feedback is asked for on a question of `domain`, None where every gate is shut.

    With two students it is the peer (Algorithm 1). Among more, ours: the highest score on the domain,
    then the smallest gap, then the order of `decisions`.
    """
    willing = [decision for decision in decisions if decision.tutor != tutee and domain in decision.domains]
    if not willing:
        return None
    return min(willing, key=lambda decision: (-scores[decision.tutor][domain], decision.gap)).tutor


def _open_domains(strategy: GateStrategy, cognizant: bool, own: Scores) -> tuple[str, ...]:
    if strategy == "never":
        return ()
    if strategy == "always" or cognizant:
        return tuple(own)
    if strategy == "cognizance":
        return ()
    highest = max(own.values())
    return tuple(domain for domain, score in own.items() if score == highest and score > 0)


def _shared_domains(scores: Mapping[str, Scores]) -> tuple[str, ...]:
    domains = tuple(next(iter(scores.values()), {}))
    for student, of in scores.items():
        if set(of) != set(domains):
            raise ValueError(f"{student} is scored on {sorted(of)}, others on {sorted(domains)}")
        wrong = {domain: score for domain, score in of.items() if not math.isfinite(score) or score < 0}
        if wrong:
            raise ValueError(f"{student} has scores that are negative or not finite: {wrong}")
    return domains
