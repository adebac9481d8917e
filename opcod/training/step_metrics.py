"""A step's metrics, by the names that TRL and SDPO's code use where they have one."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

import torch

from opcod.distillation.self_teacher import shown_feedback
from opcod.profiling.gauges import cuda_peaks
from opcod.training.samples import Sample
from opcod.training.update import UpdateReport
from opcod.types import FeedbackOutcome


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the samples themselves do not tell: the updates made, and how long each part of the step took (seconds)."""

    reports: Sequence[UpdateReport]
    learning_rate: float
    timings: Mapping[str, float]


def step_metrics(student: str, groups: Sequence[Sequence[Sample]], facts: StepFacts) -> dict[str, float]:
    """All metrics of a step, finite numbers only; a mean over nothing is left out.

    Fractions are of the step's rollouts (of its feedbacks, for ``feedback/*``), lengths in tokens, losses and
    entropies in nats per token, ``timing_s/*`` in seconds, ``memory/*`` in bytes; ``train/micro_batch_tokens`` is the
    most tokens that a pass of its updates might compute.
    """
    samples = [sample for group in groups for sample in group]
    lengths = [sample.rollout.tokens for sample in samples]
    metrics = {
        "train/accuracy": fmean(sample.rollout.correct for sample in samples),
        "train/learning_rate": facts.reports[-1].learning_rate if facts.reports else facts.learning_rate,
        "train/updates": float(len(facts.reports)),
        "train/skipped_updates": float(not facts.reports),
        "train/answer_found_fraction": fmean(sample.rollout.extracted is not None for sample in samples),
        "prompt/length_mean": fmean(len(sample.prompt) for sample in samples),
        "response/length_mean": fmean(lengths),
        "response/length_max": float(max(lengths)),
        "response/truncated_fraction": fmean(sample.rollout.truncated for sample in samples),
    }
    for domain in sorted({sample.question.domain for sample in samples}):
        metrics[f"train/accuracy/{domain}"] = fmean(s.rollout.correct for s in samples if s.question.domain == domain)
    metrics |= (
        _update_metrics(facts.reports) | _teacher_metrics(groups) | _feedback_metrics(samples) | _timings(facts.timings, sum(lengths))
    )
    return {f"{student}/{name}": value for name, value in metrics.items()}


def _update_metrics(reports: Sequence[UpdateReport]) -> dict[str, float]:
    if not reports:
        return {"train/loss_tokens": 0.0}
    tokens = [statistics for report in reports for statistics in report.tokens]
    return {
        "train/loss": fmean(report.loss for report in reports),
        "train/gradient_norm": fmean(report.gradient_norm for report in reports),
        "train/micro_batch_tokens": float(min(report.micro_batch_tokens for report in reports)),
        "train/loss_tokens": float(sum(len(one.loss) for one in tokens)),
        "train/entropy": _flat_mean(one.entropy for one in tokens),
        "train/importance_weight": _flat_mean(one.weight for one in tokens),
    }


def _teacher_metrics(groups: Sequence[Sequence[Sample]]) -> dict[str, float]:
    samples = [sample for group in groups for sample in group]
    divergences = [sample.loss for sample in samples if sample.loss]
    prompts = [len(sample.teacher_prompt) for sample in samples if sample.teacher_prompt is not None]
    metrics = {
        "self_distillation/success_group_fraction": fmean(any(sample.rollout.correct for sample in group) for group in groups),
        "self_distillation/success_sample_fraction": fmean(sample.own_solution is not None for sample in samples),
        "self_distillation/feedback_available_fraction": fmean(sample.feedback is not None for sample in samples),
        "self_distillation/feedback_used_fraction": fmean(shown_feedback(sample.feedback) is not None for sample in samples),
        "self_distillation/reprompt_sample_fraction": fmean(sample.teacher_prompt is not None for sample in samples),
    }
    if prompts:
        metrics["self_distillation/prompt_length_mean"] = fmean(prompts)
    if divergences:
        metrics["self_distillation/divergence_mean"] = _flat_mean(divergences)
        metrics["self_distillation/divergence_max"] = max(max(one) for one in divergences)
    return metrics


def _feedback_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    outcomes = [sample.feedback.outcome for sample in samples if sample.feedback is not None]
    if not outcomes:
        return {"feedback/count": 0.0}
    fractions = {f"feedback/{outcome}_fraction": outcomes.count(outcome) / len(outcomes) for outcome in get_args(FeedbackOutcome)}
    lengths = [sample.feedback.tokens for sample in samples if sample.feedback is not None and sample.feedback.tokens is not None]
    sizes = {"feedback/length_mean": fmean(lengths), "feedback/length_max": float(max(lengths))} if lengths else {}
    removed = fmean(bool(sample.feedback.removed) for sample in samples if sample.feedback is not None)
    return {"feedback/count": float(len(outcomes)), "feedback/reveal_removed_fraction": removed} | sizes | fractions


def _timings(timings: Mapping[str, float], rollout_tokens: int) -> dict[str, float]:
    spans = {f"timing_s/{name}": seconds for name, seconds in timings.items()}
    spans["timing_s/step"] = sum(timings.values())
    seconds = spans.get("timing_s/rollout", 0.0)
    if seconds > 0:
        spans["throughput/rollout_tokens_per_s"] = rollout_tokens / seconds
    spans["memory/peak_bytes"] = float(_peak_memory())
    return spans


def _peak_memory() -> int:
    """The device's peak where there is one, else the process's largest resident size."""
    if torch.cuda.is_available():
        return cuda_peaks(torch.cuda.current_device()).ever()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _flat_mean(rows: Iterable[Sequence[float]]) -> float:
    return fmean(value for row in rows for value in row)
