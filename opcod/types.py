"""The nouns of the method, each meaning one thing everywhere. Frozen, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DESCRIBED = {"use_attribute_docstrings": True}
"""For pydantic, in whose schemas a noun may stand: what is said below a field describes it there too."""

Split = Literal["train", "validation", "test"]
Role = Literal["system", "user", "assistant"]
Algorithm = Literal["opcod", "sdpo", "grpo"]
GateStrategy = Literal["cognizance", "always", "never", "domain_selective"]

FeedbackOutcome = Literal["kept", "no_concept_tag", "empty", "all_generic", "no_match", "fb_none"]
"""The six ends of a feedback (paper Table 3). All but ``kept`` are dropped."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its reference answer; `id` is unique within its domain."""

    id: str
    domain: str
    prompt: str
    answer: str
    system: str | None = None
    solution: str | None = None
    """A worked solution, where the data has one; used by supervised fine-tuning only."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verifier found in a response: the extracted answer (None: none found) and whether it is right."""

    correct: bool
    extracted: str | None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response of the tutee. `index` is its place among the question's n rollouts."""

    index: int
    text: str
    tokens: int
    """Number of sampled tokens, the end-of-turn token included."""
    correct: bool
    extracted: str | None
    truncated: bool
    """The length limit cut it before its end."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a tutor said of one rollout, and what became of it.

    `raw` is the tutor's text as sampled, `text` what remains after sanitising and is shown to the
    self-teacher if, and only if, `outcome` is ``kept``. `removed` lists what the sanitiser cut. `tokens` counts
    what the tutor sampled, the end-of-turn token included; None where that is not known.
    """

    raw: str
    text: str
    outcome: FeedbackOutcome
    concept: str | None = None
    matched_word: str | None = None
    removed: tuple[str, ...] = ()
    tokens: int | None = None


Alternative = tuple[int, float, float]
"""Another next token: its place among the pieces, and its probability for the student and for the self-teacher."""


@dataclass(frozen=True, slots=True)
class TokenLens:
    """What student and self-teacher made of each of a rollout's T tokens, in the update that counted it.

    `pieces` are the distinct texts of tokens; `tokens` [T] are places among them. Log-probabilities are nats at the
    sampling temperature, `weight` is the importance weight, `divergence` nats. Columns that do not exist are None: without
    a self-teacher there is neither `teacher`, `divergence` nor `alternatives`, outside the loss there is no `weight`, and
    `student` is then what the sampler reported. `alternatives` [T] joins the most likely next tokens of both.
    """

    pieces: tuple[str, ...]
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    """Whether the loss counted the token."""
    student: tuple[float, ...]
    teacher: tuple[float, ...] | None = None
    divergence: tuple[float, ...] | None = None
    weight: tuple[float, ...] | None = None
    alternatives: tuple[tuple[Alternative, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One rollout of the tutee with what the tutor said of it and what the self-teacher was then shown.

    `step` counts the tutee's updates from 1 over the whole run; `group` is the question's place in
    the step's batch, so that (tutee, step, group) names the n siblings. `tutor` and `feedback` are
    None where the gate was shut. `in_loss` is False where the self-teacher had neither a solution
    nor kept feedback; in GRPO, where its group was all right or all wrong. Divergences from the
    self-teacher are nats per token over the response, None where it did not teach.
    """

    round: int
    step: int
    group: int
    tutee: str
    tutor: str | None
    question: Question
    rollout: Rollout
    own_solution: str | None
    feedback: Feedback | None
    teacher_prompt: str | None
    in_loss: bool
    divergence_mean: float | None
    divergence_max: float | None
    again: Rollout | None = None
    """The tutee's answer to the same question with the kept feedback in its prompt, where the step measured breaks and rescues."""
    lens: TokenLens | None = None
    """Token by token, where the run records it (`RecordingConfig.token_questions`)."""

    @property
    def effect(self) -> Literal["break", "rescue"] | None:
        """What the feedback did to the answer: right turned wrong, or wrong turned right."""
        if self.again is None or self.again.correct == self.rollout.correct:
            return None
        return "break" if self.rollout.correct else "rescue"


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a student may tutor in a round, and on which domains (paper Eq. 2 and Figure 7)."""

    __pydantic_config__ = DESCRIBED
    round: int
    """The round that begins."""
    tutor: str
    """Who may tutor, or not."""
    strategy: GateStrategy
    """How it was decided."""
    gap: float
    """The cognizance gap of Eq. 2, from validation scores."""
    threshold: float
    """The largest gap that opens the gate."""
    cognizant: bool
    """Whether the gap is at most the threshold."""
    domains: tuple[str, ...]
    """Domains on whose questions its feedback is asked for; empty: the gate is shut."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """avg@k of one student on one domain, a fraction in [0, 1], with a 95 % bootstrap interval over questions.

    `round` 0 is before training, r is after round r. `majority_baseline` is the score of always
    giving the split's most frequent answer.
    """

    __pydantic_config__ = DESCRIBED
    round: int
    """0 before training, r after round r."""
    student: str
    """Who was scored."""
    domain: str
    """On what."""
    split: Split
    """On which questions."""
    score: float
    """Mean accuracy."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    questions: int
    """Questions asked."""
    samples: int
    """k of avg@k: answers a question."""
    majority_baseline: float
    """Score of always giving the most frequent answer."""


@dataclass(frozen=True, slots=True)
class BreakRescue:
    """How feedback changes the tutee's answers (method section 8).

    `break_rate` is the share of originally correct rollouts that turn wrong when the tutee answers
    again with the feedback in context, `rescue_rate` the share of wrong ones that turn correct; None
    where there was no such rollout. `difficulty` is the inclusive range of wrong rollouts of the
    question's n before feedback, None for all. The counts are the denominators.
    """

    __pydantic_config__ = DESCRIBED
    round: int
    """Of the run; 1 in a pre-flight."""
    tutee: str
    """Who answered."""
    tutor: str
    """Whose feedback was kept."""
    difficulty: tuple[int, int] | None
    """Wrong rollouts of the question before feedback, both ends included; None: all."""
    correct_before: int
    """Right answers before feedback."""
    broken: int
    """Those that turn wrong with it."""
    wrong_before: int
    """Wrong answers before feedback."""
    rescued: int
    """Those that turn right with it."""

    @property
    def break_rate(self) -> float | None:
        return self.broken / self.correct_before if self.correct_before else None

    @property
    def rescue_rate(self) -> float | None:
        return self.rescued / self.wrong_before if self.wrong_before else None


Scores = Mapping[str, float]
"""Score by domain."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the run reached its goal on test questions: per student, and mutual when every student improved."""

    mutual_improvement: bool | None
    students: Mapping[str, bool | None] = field(default_factory=dict)
