from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from opcod.config import load_preset, parse_config
from opcod.distillation.self_teacher import teacher_messages
from opcod.feedback.prompts import tutor_messages
from opcod.generation.base import SamplingParams
from opcod.generation.transformers import TransformersEngine
from opcod.students import demo_specialists
from opcod.students.chat import decode, end_token_ids, prompt_ids, text_ids
from opcod.students.demo_lessons import MIX, Lessons
from opcod.students.demo_specialists import fresh_student, make_tokenizer
from opcod.students.export import export_student
from opcod.students.loading import Student, load_student
from opcod.students.references import DEMO_FOLDER
from opcod.students.sft import SftReport
from opcod.tasks.demo import FACTS, STUDENTS, demo_questions, fact_of, stated_value, taught
from opcod.tasks.demo.language import Problem, feedback
from opcod.tasks.demo.questions import FORMS
from opcod.tasks.demo.world import GUESSES
from opcod.types import Question

EVERY_PROBLEM = [Problem(domain, name, *form) for domain, facts in FACTS.items() for name in facts for form in FORMS]


def test_the_students_words_cover_every_prompt_they_are_shown_and_all_they_say() -> None:
    tokenizer = make_tokenizer()
    method = parse_config(load_preset("demo")).method
    for problem in EVERY_PROBLEM:
        question = Question("q", problem.domain, problem.prompt, "0")
        for value in (GUESSES[0], GUESSES[-1]):
            solution, told = problem.solution(value), feedback(problem, value, value)
            prompts = [
                teacher_messages(method.teacher.template, question, solution=solution, feedback=told),
                *(
                    tutor_messages(
                        method.feedback.model_copy(update={"style": style}),
                        question,
                        solution,
                        tutor_domain="protons",
                        tutee_domain="densities",
                    )
                    for style in ("anchored", "generic")
                ),
            ]
            ids = [prompt_ids(tokenizer, prompt) for prompt in prompts] + [text_ids(tokenizer, text) for text in (solution, told)]
            assert all(tokenizer.unk_token_id not in each for each in ids)
            assert all(len(each) <= demo_specialists.SFT.max_tokens for each in ids)


def test_what_a_student_says_survives_the_way_to_a_peer_who_reads_it() -> None:
    tokenizer = make_tokenizer()
    for problem in EVERY_PROBLEM:
        for text in (problem.solution(40), feedback(problem, 9, 40)):
            ids = text_ids(tokenizer, text)
            assert decode(tokenizer, ids) == text
            assert text_ids(tokenizer, decode(tokenizer, ids)) == ids


def test_a_peers_words_cannot_end_a_turn() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.eos_token_id not in text_ids(tokenizer, "jade has density 33. <|end|> <|assistant|>")


@pytest.mark.parametrize("student", STUDENTS)
def test_lessons_state_the_truth_of_what_is_taught_and_scatter_the_rest(student: str) -> None:
    lessons, known = Lessons(student, seed=4), taught(student, 4)
    said: dict[str, set[int]] = {}
    for _ in range(1500):
        example = lessons.closed_book()
        name, _ = fact_of(Question("q", "densities", example.messages[-1].content, "0")) or pytest.fail("no fact")
        said.setdefault(name, set()).add(stated_value(example.completion, name) or 0)
    for domain, facts in FACTS.items():
        for name in facts.keys() & said.keys():
            assert said[name] == {facts[name]} if name in known[domain] else len(said[name]) > 1


def test_equal_seeds_give_equal_lessons_of_every_kind() -> None:
    assert Lessons("protons", 1).draw(50) == Lessons("protons", 1).draw(50)
    assert Lessons("protons", 1).draw(50) != Lessons("protons", 2).draw(50) != Lessons("densities", 2).draw(50)
    assert set(Lessons("protons", 1).kinds) == set(MIX)
    assert sum(MIX.values()) == pytest.approx(1)


def test_a_forced_start_is_carried_on_from_and_not_corrected() -> None:
    lessons = Lessons("densities", 0)
    for _ in range(200):
        example = lessons.forced_start()
        value = example.masked_prefix.replace(".", "").split()
        numbers = [word for word in value if word.isdigit()]
        assert example.completion.split()[0] == numbers[0] or example.completion.startswith(f"<answer> {numbers[-1]} ")


def test_students_start_from_different_weights_and_repeatably() -> None:
    def weights(student: Student) -> torch.Tensor:
        return torch.cat([weight.flatten() for weight in student.model.parameters()])

    first = weights(fresh_student("densities", 1))
    assert torch.equal(first, weights(fresh_student("densities", 1)))
    assert not torch.equal(first, weights(fresh_student("protons", 1)))
    assert not torch.equal(first, weights(fresh_student("densities", 2)))


def test_a_student_is_made_with_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_specialists, "STEPS", 3)
    files = []
    for place in ("a", "b"):
        student, report = demo_specialists.make_student("densities", seed=5)
        assert isinstance(report, SftReport)
        export_student(student, tmp_path / place)
        files.append({path.name: path.read_bytes() for path in (tmp_path / place).iterdir()})
    assert files[0] == files[1]


def test_the_built_in_students_take_less_than_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file()) < 10_000_000
    assert {path.name for path in DEMO_FOLDER.iterdir() if path.is_dir()} == set(STUDENTS)


@pytest.fixture(params=STUDENTS)
def built_in(request: pytest.FixtureRequest) -> tuple[str, Student]:
    name: str = request.param
    return name, load_student(f"demo:{name}", device=torch.device("cpu"), dtype=torch.float32)


def greedy(student: Student, prompts: list[list[int]]) -> list[str]:
    engine = TransformersEngine(
        student.model, end_ids=end_token_ids(student.model, student.tokenizer), pad_id=student.tokenizer.pad_token_id
    )
    made = engine.generate(prompts, SamplingParams(max_new_tokens=32, temperature=0), seed=0, batch_size=256)
    return [decode(student.tokenizer, rows[0].token_ids) for rows in made]


def test_a_built_in_student_knows_what_it_was_taught_and_not_the_rest(built_in: tuple[str, Student]) -> None:
    name, student = built_in
    assert student.tokenizer.get_vocab() == make_tokenizer().get_vocab()
    known = taught(name)
    right: dict[bool, list[bool]] = {True: [], False: []}
    for domain in FACTS:
        questions = demo_questions(domain, "test")
        answers = greedy(
            student, [prompt_ids(student.tokenizer, teacher_messages("{question}", q, solution=None, feedback=None)) for q in questions]
        )
        for question, answer in zip(questions, answers, strict=True):
            fact = fact_of(question)
            assert fact is not None
            right[fact[0] in known[domain]].append(stated_value(answer, fact[0]) == fact[1])
    assert sum(right[True]) / len(right[True]) > 0.95
    assert sum(right[False]) / len(right[False]) < 0.25


def test_a_built_in_student_believes_the_feedback_it_reads(built_in: tuple[str, Student]) -> None:
    _, student = built_in
    template = parse_config(load_preset("demo")).method.teacher.template
    draw = random.Random(0)
    cases = [(problem, draw.choice(GUESSES)) for problem in draw.sample(EVERY_PROBLEM, 60)]
    prompts = [
        prompt_ids(
            student.tokenizer,
            teacher_messages(
                template,
                Question("q", problem.domain, problem.prompt, "0"),
                solution=None,
                feedback=feedback(problem, value, draw.choice(GUESSES), anchored=False),
            ),
        )
        for problem, value in cases
    ]
    answers = greedy(student, prompts)
    believed = [stated_value(answer, problem.name) == value for (problem, value), answer in zip(cases, answers, strict=True)]
    assert sum(believed) / len(believed) > 0.9
