"""A student that speaks: chat messages in, sampled responses out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from opcod.generation.base import Engine, Generation, SamplingParams
from opcod.generation.replay import recorder_of
from opcod.generation.transformers import TransformersEngine
from opcod.students.chat import decode, end_token_ids, prompt_ids, prompt_text
from opcod.students.loading import Student
from opcod.students.pieces import TokenPieces
from opcod.tasks.verifiers import Verifier
from opcod.types import Message, Question, Rollout

PROMPTS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A sampled response and its text, special tokens left out."""

    generation: Generation
    text: str


def verified(verifier: Verifier, question: Question, index: int, response: Response) -> Rollout:
    """A response with the verifier's word on it."""
    verification = verifier(response.text, question.answer)
    generation = response.generation
    return Rollout(
        index=index,
        text=response.text,
        tokens=len(generation.token_ids),
        correct=verification.correct,
        extracted=verification.extracted,
        truncated=not generation.finished,
    )


class Policy:
    """Samples text from a student with its own tokenizer and chat template; by `engine`, or by its own weights here.

    On a CUDA device these replay `cuda_graphs`, unless told not to.
    """

    def __init__(self, student: Student, *, batch_size: int, engine: Engine | None = None, cuda_graphs: bool = True) -> None:
        self.student = student
        self.batch_size = batch_size
        self.end_ids = end_token_ids(student.model, student.tokenizer)
        self.pieces = TokenPieces(student.tokenizer)
        pad_id = student.tokenizer.pad_token_id
        self.engine: Engine = engine or TransformersEngine(
            student.model,
            end_ids=self.end_ids,
            pad_id=pad_id if isinstance(pad_id, int) else self.end_ids[0],
            recorder=recorder_of(student.model.device) if cuda_graphs else None,
        )

        # A question comes back every epoch, and a prompt is measured before it is used.
        self._prompt_ids = lru_cache(maxsize=PROMPTS_KEPT)(lambda messages: prompt_ids(student.tokenizer, messages))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat prompt, the generation prompt included."""
        return self._prompt_ids(tuple(messages))

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The text that `prompt` encodes."""
        return prompt_text(self.student.tokenizer, messages)

    def question_prompt(self, question: Question) -> list[int]:
        """Token ids of a question as the student is asked it."""
        return self.prompt(question_messages(question))

    def respond(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, seed: int, batch_size: int | None = None
    ) -> list[list[Response]]:
        """`params.n` responses to each prompt."""
        if not prompts:
            return []
        made = self.engine.generate(prompts, params, seed=seed, batch_size=batch_size or self.batch_size)
        return [[Response(one, decode(self.student.tokenizer, one.token_ids)) for one in group] for group in made]


def question_messages(question: Question) -> tuple[Message, ...]:
    """The chat that asks a question: its system prompt, if any, and its text."""
    user = Message("user", question.prompt)
    return (Message("system", question.system), user) if question.system else (user,)
