"""The built-in demo: two domains that the project generates itself, small enough for students of a laptop's size."""

from __future__ import annotations

from opcod.tasks.demo.language import fact_of, feedback_is_correct, stated_value
from opcod.tasks.demo.questions import demo_questions
from opcod.tasks.demo.world import FACTS, STUDENTS, taught

__all__ = ["FACTS", "STUDENTS", "demo_questions", "fact_of", "feedback_is_correct", "stated_value", "taught"]
