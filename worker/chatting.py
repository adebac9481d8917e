"""A chat: one question to one or two students, sampled here, one student after the other."""

from __future__ import annotations

import gc
import logging
import time
from typing import Any

import torch

from app.artefacts.store import open_store
from app.db import reading
from app.errors import NotFound
from app.guards import roots
from app.library import students
from app.records.artefact_queries import EXPORTS
from opcod.config import VerifierConfig
from opcod.errors import ConfigError, ModelError
from opcod.generation.base import SamplingParams
from opcod.generation.policy import Policy, Response
from opcod.plain_text import storable
from opcod.seeds import derive_seed
from opcod.students.loading import load_student, resolve_device
from opcod.tasks.verifiers import Verifier, make_verifier
from opcod.training.hosts import available_cores
from opcod.types import Message
from worker.job import Job
from worker.run_artefacts import RunArtefacts

log = logging.getLogger(__name__)


def carry_out(job: Job) -> dict[str, Any]:
    """Ask every student; what there is after each is told at once. All draw from the same stream of random numbers.

    Raises:
        UserError: a student is gone or cannot be loaded, or memory ran out.
    """
    torch.set_num_threads(max(1, available_cores() // 2))
    found: list[dict[str, Any]] = []
    asked = job.request["students"]
    for one in asked:
        found.append(_answer(job, one))
        job.tell(len(found) / len(asked), {"answers": found})
        gc.collect()  # the next one may need the room
    return {"answers": found}


def _answer(job: Job, asked: dict[str, Any]) -> dict[str, Any]:
    request = job.request
    with roots.confined(roots.folders_of(job.settings)):
        student = load_student(_place(job, asked), device=resolve_device("auto"), dtype=torch.float32)
    policy = Policy(student, batch_size=request["samples"])
    system, user = request["system"], Message("user", request["question"])
    prompt = policy.prompt((Message("system", system), user) if system else (user,))
    most = request["max_tokens"]
    limit = getattr(student.model.config, "max_position_embeddings", None)
    if isinstance(limit, int):
        if len(prompt) >= limit:
            raise ConfigError(
                f"The question has {len(prompt)} tokens for {asked['name']}, which reads {limit}.", advice="Ask in fewer words."
            )
        most = min(most, limit - len(prompt))
    params = SamplingParams(most, request["temperature"], request["top_p"], request["samples"])
    begun = time.monotonic()
    (responses,) = policy.respond([prompt], params, seed=derive_seed(request["seed"], "chat"))
    seconds = time.monotonic() - begun
    verifier = make_verifier(VerifierConfig.model_validate(request["verifier"])) if "verifier" in request else None
    log.info("chat %s: %s answered in %.1f s", job.id, asked["name"], seconds)
    samples = [_sample(response, verifier, request.get("answer", "")) for response in responses]
    return {"samples": samples, "prompt_tokens": len(prompt), "seconds": seconds}


def _sample(response: Response, verifier: Verifier | None, answer: str) -> dict[str, Any]:
    verdict = verifier(response.text, answer) if verifier else None
    return {
        "text": storable(response.text),
        "tokens": len(response.generation.token_ids),
        "truncated": not response.generation.finished,
        "correct": verdict.correct if verdict else None,
        "extracted": storable(verdict.extracted) if verdict and verdict.extracted else None,
    }


def _place(job: Job, asked: dict[str, Any]) -> str:
    """The student's folder on this machine, or its hub id.

    Raises:
        ModelError: it was deleted, or may not be looked at here.
        CheckpointError: the run's export is gone.
    """
    with reading(job.engine) as session:
        try:
            row = students.get(session, asked["student_id"])
        except NotFound:
            raise ModelError(f"The student {asked['name']} has been deleted.", advice="Choose another.") from None
    model = students.reference(row, job.settings)
    if row.run_id is not None:
        run, _, name = row.model.partition(f"/{EXPORTS}/")
        return str(RunArtefacts(open_store(job.settings), run, job).here(f"{EXPORTS}/{name}"))
    if not roots.may_read(model, is_model=True):
        raise ModelError(roots.OUTSIDE, advice="Admins add folders in OPCOD_ROOTS.")
    return model
