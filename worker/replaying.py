"""A replay: an exchange's self-teacher asked again with other words in its context (see `opcod.evaluation.replay`)."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load_file
from sqlmodel import col, select

from app.artefacts.store import open_store
from app.db import reading
from app.errors import NotFound
from app.guards import roots
from app.records.exchange_queries import exchange_row
from app.records.replays import Asked, kept_text
from app.tables import CheckpointRow, ExchangeRow, ExperimentRow, FeedbackRow, RunRow
from opcod.config import ExperimentConfig, parse_config
from opcod.errors import CheckpointError, DataError
from opcod.evaluation.replay import Context, ask_again, contexts
from opcod.generation.policy import Policy
from opcod.plain_text import bounded
from opcod.students.loading import DTYPES, Student, load_student, resolve_device
from opcod.students.lora import load_trainable_state
from opcod.tasks.questions import LONGEST_ID, load_domain
from opcod.tasks.verifiers import make_verifier
from opcod.training.hosts import available_cores
from opcod.training.manifest import FOLDER, manifest_name, parse_manifest
from opcod.types import Question
from worker.job import Job
from worker.run_artefacts import GONE, RunArtefacts

log = logging.getLogger(__name__)


def carry_out(job: Job) -> dict[str, Any]:
    """Sample every arm; what there is after each is told at once.

    Raises:
        UserError: data, weights or memory are missing.
    """
    asked = Asked.model_validate(job.request)
    assert job.exchange_id is not None
    with reading(job.engine) as session:
        exchange = exchange_row(session, job.exchange_id)
        said = session.get(FeedbackRow, (exchange.run_id, exchange.seq))
        run = session.get(RunRow, exchange.run_id)
        experiment = session.get(ExperimentRow, run.experiment_id) if run else None
        steps = select(CheckpointRow).where(col(CheckpointRow.run_id) == exchange.run_id, col(CheckpointRow.id) == asked.checkpoint_id)
        checkpoint = session.exec(steps).first() if asked.checkpoint_id else None
    if run is None or experiment is None:
        raise NotFound("run", exchange.run_id)
    config = parse_config(experiment.config)
    torch.set_num_threads(config.compute.threads or max(1, available_cores() // 2))
    with roots.confined(roots.folders_of(job.settings)):
        roots.stay_within(config)
        question, note = _question(config, exchange)
        artefacts = RunArtefacts(open_store(job.settings), run.folder, job)
        student = _student(config, exchange.tutee, asked, artefacts, checkpoint)
    recorded = Context(exchange.own_solution, kept_text(said))
    feedback = recorded.feedback if asked.feedback is None else asked.feedback.strip() or None
    edited = Context(recorded.solution if asked.own_solution else None, feedback)
    arms = contexts(recorded, edited)
    domain = next(domain for domain in config.domains if domain.name == exchange.domain)
    policy = Policy(student, batch_size=config.generation.batch_size)
    found: list[dict[str, Any]] = []
    answers = ask_again(policy, config, question, arms, make_verifier(domain.verifier), samples=asked.samples, number=job.id)
    job.tell(0.0, {"arms": [], "planned": list(arms), "note": note})
    for arm in answers:
        found.append(asdict(arm))
        job.tell(len(found) / len(arms), {"arms": found, "planned": list(arms), "note": note})
        log.info("replay %s: %s %.0f %%", job.id, arm.name, 100 * arm.accuracy)
    return {"arms": found, "planned": list(arms), "note": note}


def _question(config: ExperimentConfig, exchange: ExchangeRow) -> tuple[Question, str]:
    """The question as the data has it; the record lacks its system prompt. A note where the data has changed since."""
    domain = next(domain for domain in config.domains if domain.name == exchange.domain)
    try:
        data = load_domain(domain)
        known = {bounded(question.id, LONGEST_ID): question for question in (*data.train, *data.validation, *data.test)}
        question = known.get(exchange.question_id)
    except DataError as error:
        log.warning("the domain's data cannot be read any more: %s", error)
        question = None
    if question is not None and question.prompt == exchange.question_prompt:
        return question, ""
    recorded = Question(exchange.question_id, exchange.domain, exchange.question_prompt, exchange.question_answer, domain.system_prompt)
    return recorded, "The domain's data has changed since: the question is asked as it was recorded, with the domain's own system prompt."


def _student(config: ExperimentConfig, name: str, asked: Asked, artefacts: RunArtefacts, checkpoint: CheckpointRow | None) -> Student:
    """The tutee with the weights that were asked for: the self-teacher's own, where a checkpoint has them.

    Raises:
        CheckpointError: they are gone.
        ModelError, ResourceError: the model cannot be loaded.
    """
    compute = config.compute
    device, dtype = resolve_device(compute.device), DTYPES[compute.dtype]
    if asked.weights == "exported":
        return load_student(str(artefacts.here(f"exports/{name}")), device=device, dtype=dtype)
    model = next(student.model for student in config.students if student.name == name)
    student = load_student(model, device=device, dtype=dtype, adapters=compute.adapters)
    if asked.weights == "initial":
        return student
    if checkpoint is None:
        raise CheckpointError("The checkpoint is gone.", advice=GONE)
    try:
        manifest = parse_manifest(artefacts.read(f"{FOLDER}/{manifest_name(checkpoint.seq)}"))
    except FileNotFoundError:
        raise CheckpointError("The checkpoint is no longer kept.", advice=GONE) from None
    if manifest is None or name not in manifest.students:
        raise CheckpointError("The checkpoint is damaged.", advice="Choose other weights.")
    state = manifest.students[name]
    file = "teacher.safetensors" if "teacher.safetensors" in state.files else "weights.safetensors"
    try:
        tensors = load_file(artefacts.here(f"{state.folder}/{file}"))
    except OSError:
        raise CheckpointError("The checkpoint was deleted meanwhile.", advice=GONE) from None
    load_trainable_state(student.model, tensors)
    return student
