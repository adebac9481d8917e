"""What the paper measured, to be set beside a run with its settings and never to be taken for the run's own.

Byeon, Jeon, Kim, Sung, "Be My Tutor: On-Policy Co-Distillation for Mutual LLM Improvement via Peer Feedback",
arXiv 2606.14368: Tables 1 and 3, and the break rates and times a step that it reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.shapes import ReferenceBreakRate, ReferenceScore, ReferenceStepTime, ReportReference

SOURCE = "arXiv 2606.14368, Qwen3-8B on SciKnowEval L3"
PRESETS = ("paper",)
"""Runs of these may be set beside the paper's."""
_NAMES = {"material": "materials", "materials-science": "materials", "materials_science": "materials"}

# (pair, domain in which the student is the stronger one) -> domain -> (initial, GRPO, SDPO, OPCoD), avg@16 in percent.
_Scores = Mapping[str, tuple[float, float, float, float]]
_TABLE_1: Mapping[tuple[frozenset[str], str], _Scores] = {
    (frozenset({"materials", "physics"}), "materials"): {"materials": (65.1, 67.8, 62.2, 70.5), "physics": (48.1, 53.8, 52.3, 55.3)},
    (frozenset({"materials", "physics"}), "physics"): {"materials": (56.0, 66.0, 58.8, 66.1), "physics": (51.6, 53.9, 51.9, 54.3)},
    (frozenset({"chemistry", "materials"}), "chemistry"): {"chemistry": (56.3, 62.0, 70.9, 71.3), "materials": (56.1, 65.6, 65.8, 69.8)},
    (frozenset({"chemistry", "materials"}), "materials"): {"chemistry": (37.6, 57.3, 55.4, 57.5), "materials": (65.1, 65.2, 60.0, 66.4)},
    (frozenset({"physics", "chemistry"}), "physics"): {"physics": (51.6, 52.6, 51.1, 54.1), "chemistry": (37.3, 55.4, 56.7, 58.9)},
    (frozenset({"physics", "chemistry"}), "chemistry"): {"physics": (48.6, 54.3, 56.4, 58.8), "chemistry": (56.3, 62.8, 69.9, 70.2)},
}
_OUTCOMES_FIRST = {"kept": 0.728, "no_concept_tag": 0.211, "no_match": 0.026, "empty": 0.030, "all_generic": 0.006}
_OUTCOMES_LAST = {"kept": 0.746, "no_concept_tag": 0.189, "no_match": 0.025, "empty": 0.036, "all_generic": 0.004}
_BREAK_RATES = [
    ReferenceBreakRate(difficulty=difficulty, cognizant=cognizant, incognizant=incognizant)
    for difficulty, cognizant, incognizant in (
        (None, 0.0277, 0.0653), ((0, 1), 0.0113, 0.0475), ((0, 4), 0.0235, 0.0554), ((5, 7), 0.0542, 0.1373), ((7, 7), 0.1379, 0.2188),
    )
]  # fmt: skip
_STEP_TIME = ReferenceStepTime(opcod=399.6, sdpo=375.0, with_feedback=432.0, without_feedback=367.2)


def reference(preset: str | None, students: Mapping[str, str | None], domains: Sequence[str]) -> ReportReference | None:
    """The paper's figures where the run is made from its preset; scores where the run's pair is one of the paper's.

    `students` are names with their native domains.
    """
    if preset not in PRESETS:
        return None
    known = {domain: _plain(domain) for domain in domains}
    pair = frozenset(known.values())
    scores = []
    for student, native in students.items():
        row = _TABLE_1.get((pair, _plain(native or "")), {})
        for domain, name in known.items():
            if name in row:
                initial, grpo, sdpo, opcod = (round(value / 100, 4) for value in row[name])
                scores.append(ReferenceScore(student=student, domain=domain, initial=initial, grpo=grpo, sdpo=sdpo, opcod=opcod))
    return ReportReference(
        source=SOURCE,
        scores=scores,
        outcomes_first_round=_OUTCOMES_FIRST,
        outcomes_last_round=_OUTCOMES_LAST,
        break_rates=_BREAK_RATES,
        step_seconds=_STEP_TIME if pair == {"physics", "chemistry"} else None,
    )


def _plain(domain: str) -> str:
    name = domain.lower()
    return _NAMES.get(name, name)
