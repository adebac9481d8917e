"""Make the two specialists of physics-chemistry.yaml from SmolLM2-135M-Instruct, by supervised fine-tuning on SciKnowEval.

    python -m opcod students import-gguf smollm2 runs/sciknoweval/base
    python examples/sciknoweval/make_specialists.py --data FOLDER_WITH_physics_AND_chemistry

The data has questions and answer letters, but no worked solutions, so the lessons are written by this program
from the question's own words (see `Lessons`). They teach a form and which letter is right, not how to reason.
A specialist is taught on its own domain's training questions alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os.path import commonprefix
from pathlib import Path

from opcod.config import ExperimentConfig, parse_config, parse_yaml
from opcod.distillation.self_teacher import teacher_messages
from opcod.feedback.anchoring import GENERIC_WORDS
from opcod.feedback.prompts import tutor_messages
from opcod.feedback.review import review
from opcod.generation.policy import question_messages
from opcod.students.sft import SftExample, sft
from opcod.students.sft_config import SftConfig
from opcod.tasks.questions import load_domains
from opcod.types import Question

CONFIG = Path(__file__).with_name("physics-chemistry.yaml")
HOME = Path("runs/sciknoweval")
DOMAINS = ("physics", "chemistry")
LETTERS = "ABCD"
OPTION = re.compile(r"^([A-D]): (.*)$", re.MULTILINE)
_EMPTY_WORDS = """
    calculate determine find given following please note content involves constants used calculations additionally select option
    options choices choose closest correct incorrect below list represents representation corresponding expected according consider
    assume suppose molecule molecules compound substance statement statements true false using make made take taken show shown
    describe explain best likely first second well known called through along moves treat
"""
EMPTY_WORDS = GENERIC_WORDS.union(_EMPTY_WORDS.split())
"""Words that say nothing of a question's subject."""


def main() -> None:
    """Filter the data, then teach both specialists, each in a process of its own."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="folder with DOMAIN/train.jsonl and DOMAIN/test.jsonl")
    arguments.add_argument("--questions", type=int, default=120, help="training questions that a specialist is taught on")
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--learning-rate", type=float, default=2e-4)
    arguments.add_argument("--train-tokens", type=int, default=140, help="longest training and validation question")
    arguments.add_argument("--test-tokens", type=int, default=200, help="longest test question")
    options = arguments.parse_args()
    for domain in DOMAINS:
        for split, limit in (("train", options.train_tokens), ("test", options.test_tokens)):
            keep_short(options.data / domain / f"{split}.jsonl", HOME / "data" / f"{domain}.{split}.jsonl", limit)
    processes = [multiprocessing.Process(target=teach, args=(domain, options)) for domain in DOMAINS]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("A specialist was not made.")


def keep_short(source: Path, out: Path, limit: int) -> None:
    """Copy the rows whose prompt has at most `limit` tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(HOME / "base")
    rows = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in rows if len(tokenizer(json.loads(line)["prompt"])["input_ids"]) <= limit]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{out}: {len(kept)} of {len(rows)} questions have at most {limit} tokens")


def teach(domain: str, options: argparse.Namespace) -> None:
    """Make one specialist and export it."""
    import torch

    from opcod.students.export import export_student
    from opcod.students.loading import load_student

    torch.set_num_threads(1)
    config = parse_config(parse_yaml(CONFIG.read_text(encoding="utf-8")))
    questions = next(data.train for data in load_domains(config.domains) if data.name == domain)
    peer = next(name for name in DOMAINS if name != domain)
    lessons = Lessons(config, domain, peer, random.Random(config.seed))
    examples = list(lessons.all(list(questions)[: options.questions]))
    student = load_student(str(HOME / "base"), device=torch.device("cpu"), dtype=torch.float32)
    settings = SftConfig(
        epochs=options.epochs,
        batch_size=8,
        learning_rate=options.learning_rate,
        adapters=None,
        max_tokens=480,
        micro_batch_tokens=1024,
        seed=config.seed,
    )
    start = time.monotonic()

    def tell(step: int, steps: int, loss: float) -> None:
        if step % 10 == 0 or step == steps:
            print(f"{domain}: step {step} of {steps}, loss {loss:.3f}, {time.monotonic() - start:.0f} s", flush=True)

    report = sft(student, examples, settings, on_step=tell)
    out = export_student(student, HOME / f"{domain}-specialist")
    print(f"{out}: {report.examples} examples, {report.skipped} too long, {time.monotonic() - start:.0f} s")


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a specialist is taught, in the very formats of the run.

    1. To answer: a sentence that names a term of the question and the option's text, then the letter.
    2. To be a tutor of right and wrong answers: the anchor, and whether the chosen option fits.
    3. To answer with a solution, a feedback or both in sight; options are shuffled, so that
       the letter has to come from what is shown.
    """

    config: ExperimentConfig
    domain: str
    peer: str
    random: random.Random

    def all(self, questions: list[Question]) -> Iterator[SftExample]:
        """An answer to each question whose term can be found, a feedback to every second, an open-book answer to every fourth."""
        for place, question in enumerate(q for q in questions if term_of(q) and set(options_of(q)) == set(LETTERS)):
            yield SftExample(question_messages(question), response(question, question.answer))
            if place % 2:
                yield from self.feedback_lesson(question, right=place % 4 == 1)
            elif place % 4 == 2:
                yield self.open_book_lesson(question, kind=place // 4 % 3)

    def feedback_lesson(self, question: Question, *, right: bool) -> Iterator[SftExample]:
        """The tutor's prompt on a right or wrong response, and what to say to it, if that would be kept."""
        letter = question.answer if right else self.wrong(question)
        prompt = tutor_messages(
            self.config.method.feedback, question, response(question, letter), tutor_domain=self.domain, tutee_domain=self.peer
        )
        said = feedback(question, letter)
        checked = review(said, question, "anchored")
        if checked.outcome == "kept" and not checked.removed:
            yield SftExample(prompt, said)

    def open_book_lesson(self, question: Question, *, kind: int) -> SftExample:
        """The self-teacher's prompt with a solution, a feedback, or both."""
        question = shuffled(question, self.random)
        right = response(question, question.answer)
        letter = question.answer if self.random.random() < 0.3 else self.wrong(question)
        said = review(feedback(question, letter), question, "anchored").text
        prompt = teacher_messages(
            self.config.method.teacher.template,
            question,
            solution=right if kind != 1 else None,
            feedback=said if kind != 0 else None,
        )
        return SftExample(prompt, right)

    def wrong(self, question: Question) -> str:
        """A letter that is not the answer."""
        return self.random.choice([letter for letter in LETTERS if letter != question.answer])


def response(question: Question, letter: str) -> str:
    """A response in the verifier's format."""
    reason = f"The question is about {term_of(question)}. Option {letter}, {shown(question, letter)}, fits it best."
    return f"<reasoning>\n{reason}\n</reasoning>\n<answer>\n{letter}\n</answer>"


def feedback(question: Question, letter: str) -> str:
    """A tutor's words on a response that chose `letter`: the anchor, and whether it fits."""
    term, choice = term_of(question), shown(question, letter)
    if letter == question.answer:
        return f"<concept>{term}</concept> Picking {choice} fits the {term}. The reasoning can stand as it is."
    return f"<concept>{term}</concept> Picking {choice} does not fit the {term}. Weigh the other options again."


def shown(question: Question, letter: str, limit: int = 24) -> str:
    """The beginning of an option's text, from where the options differ."""
    options = options_of(question)
    shared = commonprefix(list(options.values())).rpartition(" ")[0]  # noqa: RUF071 (these are no paths)
    text = options[letter].removeprefix(shared).strip().rstrip(".")
    return f'"{text if len(text) <= limit else text[:limit] + "..."}"'


def options_of(question: Question) -> dict[str, str]:
    """Option text by letter."""
    return {match[1]: match[2] for match in OPTION.finditer(question.prompt)}


def shuffled(question: Question, generator: random.Random) -> Question:
    """The same question with its options in another order."""
    old = options_of(question)
    order = list(LETTERS)
    generator.shuffle(order)  # the new letter at each place takes this old letter's text
    texts = {new: old[before] for new, before in zip(LETTERS, order, strict=True)}
    prompt = OPTION.sub(lambda match: f"{match[1]}: {texts[match[1]]}", question.prompt)
    return replace(question, prompt=prompt, answer=LETTERS[order.index(question.answer)])


def term_of(question: Question) -> str | None:
    """The longest run of up to three telling words in the question, the first of equals: most often its subject."""
    stem = question.prompt[: match.start()] if (match := OPTION.search(question.prompt)) else question.prompt
    longest: list[str] = max(_runs(stem.strip().removeprefix("Question:")), key=len, default=[])
    return " ".join(longest) or None


def _runs(text: str) -> Iterator[list[str]]:
    for part in re.split(r"[^A-Za-z\s/-]+|\n", text):
        run: list[str] = []
        for word in part.split():
            if len(word) >= 4 and word.strip("-/").isalpha() and word.casefold() not in EMPTY_WORDS:
                run.append(word)
                continue
            if run:
                yield run[:3]
            run = []
        if run:
            yield run[:3]


if __name__ == "__main__":
    main()
