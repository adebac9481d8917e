"""The product's words, one line each: shown on hover or focus, and linked to the method's page."""

from __future__ import annotations

from dataclasses import dataclass

from opcod.types import FeedbackOutcome


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the product."""

    name: str
    meaning: str

    @property
    def anchor(self) -> str:
        """Its place on the method's page."""
        return f"word-{self.name.lower().replace(' ', '-')}"


def _words(*words: tuple[str, str]) -> dict[str, Word]:
    return {name.lower(): Word(name, meaning) for name, meaning in words}


WORDS = _words(
    ("Experiment", "What to run: students, domains and every setting. It can be run more than once."),
    ("Run", "One running of an experiment, from its first validation to its verdict."),
    ("Sweep", "The same experiment with settings that differ, each a run of its own, read side by side."),
    ("Round", "Validate every student, decide who may tutor, then one phase for each student."),
    ("Phase", "The part of a round in which one student is the tutee and its peers tutor it."),
    ("Step", "One update of the tutee's weights on a batch of questions."),
    ("Exchange", "One rollout of the tutee, what the tutor said of it, and what the self-teacher was then shown."),
    ("Student", "A language model in training. Each one is stronger in another domain."),
    ("Domain", "A field of questions with disjoint train, validation and test sets."),
    ("Tutor", "A frozen peer that comments on the tutee's rollouts."),
    ("Tutee", "The student that is being updated in this phase."),
    ("Gate", "Decides each round whether a student may tutor: open when its cognizance gap is at most the threshold."),
    ("Cognizance gap", "How far a student is below the best one, summed over the domains. 0: it is the best everywhere."),
    ("Anchor", "The technical term of the question that the tutor must name first. Feedback without a valid one is dropped."),
    ("Kept", "Feedback whose anchor stands in the question; only this reaches the self-teacher. All other is dropped."),
    ("Break", "A correct answer that turns wrong once the tutee has read the feedback."),
    ("Rescue", "A wrong answer that turns correct once the tutee has read the feedback."),
    ("Self-teacher", "A moving average of the tutee that is shown a solution and the kept feedback; the tutee learns to match it."),
    ("Pareto-best", "No other is at least as good on every domain and better on one. Intervals may still overlap."),
    ("Pareto plane", "Two domains as axes: what lies right of and above a point is better on both."),
    ("Mutual Pareto improvement", "Every student ends no worse on any domain and better on at least one."),
    ("Rollout", "One answer that the tutee samples to a question."),
    ("Divergence", "How far the student's next-token distribution is from the self-teacher's, in nats a token."),
    ("Token lens", "The rollout token by token, coloured by what student and self-teacher made of each: the words that were taught."),
    (
        "Importance weight",
        "How much likelier a token is now than when it was sampled; it scales the token’s loss, up to a limit.",
    ),
    ("Replay", "The self-teacher asked again, with other words in its context: what would other feedback have done?"),
    (
        "In loss",
        "The update learned from the rollout; not so where neither solution nor kept feedback was there (GRPO: where all were alike).",
    ),
    ("Pre-flight", "A few minutes’ look at an experiment on a worker: scores, gates, feedback, self-teacher. Nothing is trained."),
    ("Estimate", "What an experiment will take, fitted on runs that were measured; nine of ten end within its ranges."),
    ("Majority baseline", "The score of always giving the split's most frequent answer."),
)

OUTCOMES: dict[FeedbackOutcome, tuple[str, str]] = {
    "kept": ("Kept", "The named concept stands in the question, so the self-teacher was shown this feedback."),
    "no_concept_tag": (
        "No concept tag",
        "Dropped: the tutor wrote no well-formed <concept> tag, so nothing ties it to the question.",
    ),
    "empty": ("Empty concept", "Dropped: the <concept> tag was there, with nothing in it."),
    "all_generic": ("All generic", "Dropped: the concept has only generic words such as “problem” or “answer”."),
    "no_match": ("No match", "Dropped: the named concept does not stand in the question."),
    "fb_none": ("Nothing said", "Dropped: the tutor returned no text."),
}
"""Outcome -> (label, the reason in words)."""

STATUSES: dict[str, str] = {
    "queued": "Waiting for a worker.",
    "starting": "A worker has taken it and loads the students.",
    "running": "Training.",
    "pausing": "Will save a checkpoint and pause after the current step.",
    "paused": "Saved and waiting to be resumed.",
    "stopping": "Will save a checkpoint and stop after the current step.",
    "stopped": "Stopped by request; it can be resumed from its last checkpoint.",
    "failed": "Ended by an error; see the advice.",
    "completed": "Finished, with a verdict.",
}

PARTS: dict[str, str] = {
    "startup": "Start",
    "evaluation": "Scoring",
    "rollout": "Rollouts",
    "feedback": "Feedback",
    "break_rescue": "Break and rescue",
    "update": "Updates",
    "rest": "Records and checkpoints",
}
"""Part of an estimated time -> its name."""

MENDED: dict[str, str] = {
    "unanswerable": "rows dropped that could not be used:",
    "long_prompts": "long questions dropped:",
    "duplicates": "repetitions dropped:",
    "leaks": "questions dropped that stood in another split:",
    "ids": "questions numbered anew:",
}
"""What was mended of an upload when it was saved, before its count."""
