"""How the demo's people speak: questions, worked answers and feedback, written and read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from opcod.tasks.demo.world import FACTS
from opcod.types import Question

Operation = Literal["+", "-", "×"]

QUESTIONS: Final[dict[str, dict[Operation, str]]] = {
    "densities": {
        "+": "A mineral is {operand} denser than {name}. What is its density?",
        "-": "A mineral is {operand} lighter than {name}. What is its density?",
        "×": "What do {operand} blocks of {name} weigh?",
    },
    "protons": {
        "+": "An element stands {operand} places after {name}. How many protons has it?",
        "-": "An ion of {name} lost {operand} electrons. How many electrons has it?",
        "×": "How many protons have {operand} atoms of {name}?",
    },
}

STATEMENTS: Final = {"densities": "{name} has density {value}.", "protons": "{name} has {value} protons."}


@dataclass(frozen=True, slots=True)
class Problem:
    """A fact and one step of arithmetic on it."""

    domain: str
    name: str
    operation: Operation
    operand: int

    @property
    def prompt(self) -> str:
        return QUESTIONS[self.domain][self.operation].format(operand=self.operand, name=self.name)

    def result(self, value: int) -> int:
        """What the step makes of a value of the fact."""
        match self.operation:
            case "+":
                return value + self.operand
            case "-":
                return value - self.operand
            case "×":
                return value * self.operand

    def statement(self, value: int) -> str:
        """The fact as a sentence: ``iron has 26 protons.``"""
        return STATEMENTS[self.domain].format(name=self.name, value=value)

    def step(self, value: int, result: int | None = None) -> str:
        """The arithmetic as a sentence: ``26 + 3 = 29.``; `result` puts another number in the place of the right one."""
        return f"{value} {self.operation} {self.operand} = {self.result(value) if result is None else result}."

    def answer(self, value: int, result: int | None = None) -> str:
        """The end of a response: ``<answer> 29 </answer>``."""
        return f"<answer> {self.result(value) if result is None else result} </answer>"

    def solution(self, value: int, result: int | None = None) -> str:
        """A whole response, consistent with a value that need not be the true one."""
        return f"{self.statement(value)} {self.step(value, result)} {self.answer(value, result)}"


def feedback(problem: Problem, believed: int, said: int, *, anchored: bool = True) -> str:
    """What a tutor that believes one value says to a response that uses another, or the same."""
    anchor = f"<concept> {problem.name} </concept> " if anchored else ""
    return f"{anchor}{problem.statement(believed)} the response says {said}."


def stated_value(text: str, name: str) -> int | None:
    """The value that a text gives for a fact, None where it gives none; the first, if it gives several."""
    found = re.search(rf"\b{re.escape(name)} has (?:density )?(\d+)\b", text.lower())
    return int(found.group(1)) if found else None


def fact_of(question: Question) -> tuple[str, int] | None:
    """(name, true value) of the fact that a question asks for; None for a question of another world."""
    words = set(re.findall(r"[a-z]+", question.prompt.lower()))
    named = [(name, value) for facts in FACTS.values() for name, value in facts.items() if name in words]
    return named[0] if len(named) == 1 else None


def feedback_is_correct(question: Question, text: str) -> bool | None:
    """Whether the fact that a feedback states is the true one; None where it states none, or none of the question's."""
    fact = fact_of(question)
    said = stated_value(text, fact[0]) if fact else None
    return None if fact is None or said is None else said == fact[1]
