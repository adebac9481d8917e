"""What the demo's students are taught before they meet: examples for supervised fine-tuning.

Five kinds, mixed (shares in `MIX`):

- *closed book*: a question and its worked answer. Facts that the student is not taught appear too, each time with
  another value, so that it learns to guess them instead of being confidently wrong, from which it could hardly learn.
- *open book*: the self-teacher's prompt with a solution, a feedback or both, on facts with random values, so that
  what is read counts and not what is remembered. A solution beats a feedback that contradicts it.
- *feedback*: the tutor's prompt with a right or wrong response, answered in the real format.
- *drill*: the arithmetic alone.
- *forced start*: a response that has begun with some value, to be carried on consistently, whatever the context.
  The self-teacher scores the student's own rollouts, so it must know how a wrong one goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

from opcod.config import MethodConfig, load_preset
from opcod.distillation.self_teacher import teacher_messages
from opcod.feedback.prompts import tutor_messages
from opcod.students.sft import SftExample
from opcod.tasks.demo.language import Problem, feedback
from opcod.tasks.demo.questions import FORMS
from opcod.tasks.demo.world import FACTS, GUESSES, taught
from opcod.types import Message, Question

MIX: Final = {"closed_book": 0.27, "open_book": 0.25, "feedback": 0.14, "forced_start": 0.17, "drill": 0.17}

UNTAUGHT: Final = 0.25
"""Share of closed-book and feedback lessons that are about facts which the student is not taught."""


class Lessons:
    """Draws lessons for one student of the world `seed`; equal arguments give equal lessons."""

    def __init__(self, student: str, seed: int) -> None:
        self.random = random.Random(f"demo lessons {seed}: {student}")
        self.method = MethodConfig.model_validate(load_preset("demo")["method"])
        known = taught(student, seed)
        self.known = [(domain, name) for domain in FACTS for name in FACTS[domain] if name in known[domain]]
        self.unknown = [(domain, name) for domain in FACTS for name in FACTS[domain] if name not in known[domain]]
        self.kinds: Mapping[str, Callable[[], SftExample]] = {
            "closed_book": self.closed_book,
            "open_book": self.open_book,
            "feedback": self.feedback,
            "forced_start": self.forced_start,
            "drill": self.drill,
        }

    def draw(self, count: int) -> list[SftExample]:
        """`count` lessons in the shares of `MIX`."""
        kinds = self.random.choices(list(MIX), weights=list(MIX.values()), k=count)
        return [self.kinds[kind]() for kind in kinds]

    def closed_book(self) -> SftExample:
        problem, value = self._remembered()
        return SftExample(_asked(problem), problem.solution(value))

    def open_book(self) -> SftExample:
        problem, value = self._problem(self._any_fact()), self._value()
        return SftExample(self._open_book_prompt(problem, value), problem.solution(value))

    def feedback(self) -> SftExample:
        problem, believed = self._remembered()
        said = believed if self.random.random() < 0.5 else self._value()
        slipped = problem.result(said) + self.random.choice((-2, -1, 1, 2)) if self.random.random() < 0.1 else None
        style = "generic" if self.random.random() < 0.1 else "anchored"
        prompt = tutor_messages(
            self.method.feedback.model_copy(update={"style": style}),
            _question(problem),
            problem.solution(said, slipped),
            tutor_domain=self._domain(),
            tutee_domain=self._domain(),
        )
        return SftExample(prompt, feedback(problem, believed, said, anchored=style == "anchored"))

    def forced_start(self) -> SftExample:
        problem, value, forced = self._problem(self._any_fact()), self._value(), self._value()
        messages = _asked(problem) if self.random.random() < 0.5 else self._open_book_prompt(problem, value)
        if self.random.random() < 0.15:
            slipped = problem.result(forced) + self.random.choice((-2, -1, 1, 2))
            return SftExample(messages, problem.answer(forced, slipped), f"{problem.statement(forced)} {problem.step(forced, slipped)}")
        return SftExample(messages, f"{problem.step(forced)} {problem.answer(forced)}", problem.statement(forced))

    def drill(self) -> SftExample:
        problem, value = self._problem(self._any_fact()), self._value()
        return SftExample((Message("user", f"{value} {problem.operation} {problem.operand}"),), problem.step(value))

    def _open_book_prompt(self, problem: Problem, value: int) -> tuple[Message, ...]:
        """Context that tells the value: a feedback, a solution, both, or a solution and a feedback that is wrong."""
        solution = problem.solution(value)
        kind = self.random.choices(("feedback", "solution", "both", "contradiction"), weights=(4, 2, 2, 2))[0]
        believed = self._value() if kind == "contradiction" else value
        said = value if self.random.random() < 0.3 else self._value()
        told = feedback(problem, believed, said, anchored=False)
        return teacher_messages(
            self.method.teacher.template,
            _question(problem),
            solution=None if kind == "feedback" else solution,
            feedback=None if kind == "solution" else told,
        )

    def _remembered(self) -> tuple[Problem, int]:
        """A problem with the value that the student has in mind: the true one, or a guess."""
        if self.random.random() < UNTAUGHT:
            return self._problem(self.random.choice(self.unknown)), self._value()
        domain, name = self.random.choice(self.known)
        return self._problem((domain, name)), FACTS[domain][name]

    def _any_fact(self) -> tuple[str, str]:
        domain = self._domain()
        return domain, self.random.choice(list(FACTS[domain]))

    def _problem(self, fact: tuple[str, str]) -> Problem:
        return Problem(*fact, *self.random.choice(FORMS))

    def _value(self) -> int:
        return self.random.choice(GUESSES)

    def _domain(self) -> str:
        return self.random.choice(list(FACTS))


def _asked(problem: Problem) -> tuple[Message, ...]:
    return (Message("user", problem.prompt),)


def _question(problem: Problem) -> Question:
    return Question(id="lesson", domain=problem.domain, prompt=problem.prompt, answer="")
