"""What one step, and one scoring, ask of a student: a run's settings and the students' behaviour turned into counts of work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from opcod.config import ExperimentConfig
from opcod.estimation.behaviour import Behaviour
from opcod.estimation.models import ModelShape
from opcod.estimation.work import Features, Sampling, Update, sampling_features, update_features


@dataclass(frozen=True, slots=True)
class StepJobs:
    """The parts of a step; `again` (answers for break and rescue rates) comes once a phase."""

    rollout: Sampling
    feedback: Sampling
    again: Sampling
    update: Update


def step_jobs(config: ExperimentConfig, shape: ModelShape, one: Behaviour) -> StepJobs:
    """One step of a student of this shape."""
    generation, schedule, feedback = config.generation, config.schedule, config.method.feedback
    questions, each = schedule.questions_per_step, generation.rollouts
    rollouts = questions * each
    measured = min(config.evaluation.break_rescue_questions, questions) * each * one.asked * one.kept
    grpo = config.method.algorithm == "grpo"
    return StepJobs(
        rollout=Sampling(questions, each, one.prompt, one.response, one.longest, generation.batch_size),
        feedback=Sampling(rollouts * one.asked, 1, one.feedback_prompt, one.feedback, one.feedback_longest, feedback.batch_size),
        again=Sampling(measured, 1, one.teacher_prompt, one.response, one.longest, generation.batch_size),
        update=Update(
            responses=rollouts if grpo else rollouts * one.taught,
            each=each,
            prompt=one.prompt,
            response=one.response,
            teacher_prompt=None if grpo else one.teacher_prompt,
            micro_batch_tokens=config.compute.known_micro_batch_tokens,
            recomputed=config.compute.gradient_checkpointing,
            trainable=shape.trainable(config.compute.adapters),
            updates=ceil(questions / (config.optimizer.mini_batch_questions or questions)),
        ),
    )


def step_features(config: ExperimentConfig, shape: ModelShape, tutor: ModelShape, one: Behaviour) -> dict[str, Features]:
    """Features of each part of a step, of one GPU's share; `again` spread over the steps of its phase."""
    jobs, gpus = step_jobs(config, shape, one), sharing(config)
    again = sampling_features(shape, _share(jobs.again, gpus))
    update = replace(jobs.update, responses=jobs.update.responses / gpus)
    return {
        "rollout": sampling_features(shape, _share(jobs.rollout, gpus)),
        "feedback": sampling_features(tutor, _share(jobs.feedback, gpus)),
        "break_rescue": tuple(value / config.schedule.steps_per_round for value in again),
        "update": update_features(shape, update),
    }


def sharing(config: ExperimentConfig) -> int:
    """Devices that share a student's work. Processes on a CPU share its cores, which gains nothing."""
    return 1 if config.compute.device == "cpu" else config.compute.gpus


def _share(job: Sampling, gpus: int) -> Sampling:
    return replace(job, prompts=job.prompts / gpus)


def evaluation_job(config: ExperimentConfig, questions: float, one: Behaviour) -> Sampling:
    """A student's answers to a domain's questions."""
    return Sampling(questions, config.evaluation.samples, one.prompt, one.response, one.longest, config.generation.batch_size)


def evaluation_features(config: ExperimentConfig, questions: int, shapes: list[ModelShape], behaviours: list[Behaviour]) -> Features:
    """One scoring of every student on every domain: of one student where they work side by side, of all together else."""
    domains = len(config.domains)
    each = [
        sampling_features(shape, _share(evaluation_job(config, questions / domains, one), sharing(config)))
        for shape, one in zip(shapes, behaviours, strict=True)
    ]
    lanes = len(each) if config.compute.side_by_side else 1
    return tuple(domains * sum(column) / lanes for column in zip(*each, strict=True))
