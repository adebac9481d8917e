"""Puts known faults into a copy of the code, one at a time, and sees that a test fails: `python -m tests.mutations [WORD]`.

The faults are those of docs/method.md, "Pitfalls and the tests that guard them", whose table `--table` prints. Not a test itself: it
takes some minutes. WORD picks the faults whose description holds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("opcod", "app", "worker", "tests", "templates", "static", "docs", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault, the edit that makes it (`old` must stand in `file` exactly once), and the test that must then fail."""

    what: str
    file: str
    old: str
    new: str
    test: str


STEP = "tests/unit/training/test_step.py"
RUN = "tests/integration/test_training_run.py"
DISTILLATION = "tests/unit/distillation"

MUTATIONS = [
    Mutation(
        "dropped feedback reaches the self-teacher",
        "opcod/distillation/self_teacher.py",
        'if feedback is not None and feedback.outcome == "kept" else None',
        "if feedback is not None else None",
        f"{STEP}::test_dropped_feedback_never_reaches_the_self_teacher",
    ),
    Mutation(
        "feedback reaches another rollout than the one it speaks of",
        "opcod/training/step.py",
        "zip(asked, said, strict=True)",
        "zip(asked, said[::-1], strict=True)",
        f"{STEP}::test_kept_feedback_reaches_the_rollout_it_speaks_of",
    ),
    Mutation(
        "s comes from another question's group",
        "opcod/training/step.py",
        "zip(group, own_solutions([sample.rollout for sample in group]), strict=True)",
        "zip(group, own_solutions([sample.rollout for each in groups for sample in each]), strict=False)",
        f"{STEP}::test_a_solution_comes_from_the_same_question_and_never_from_itself",
    ),
    Mutation(
        "a response is its own s",
        "opcod/distillation/self_teacher.py",
        "if other != place)",
        "if True)",
        f"{STEP}::test_a_solution_comes_from_the_same_question_and_never_from_itself",
    ),
    Mutation(
        "a wrong response is shown as s",
        "opcod/distillation/self_teacher.py",
        "if rollout.correct and (text",
        "if (text",
        f"{DISTILLATION}/test_self_teacher.py::test_a_rollout_is_never_its_own_solution_and_gets_the_earliest_other",
    ),
    Mutation(
        "logits are taken one position late",
        "opcod/distillation/scoring.py",
        "logits[:, -kept:-1]",
        "logits[:, -kept + 1 :]",
        f"{DISTILLATION}/test_scoring.py::test_each_token_is_predicted_as_it_is_in_its_row_alone",
    ),
    Mutation(
        "student and teacher are compared at shifted positions",
        "opcod/training/update.py",
        "            student_readout = response_readout(",
        "            teacher_readout = replace(teacher_readout, features=teacher_readout.features.roll(1, dims=0))\n"
        "            student_readout = response_readout(",
        f"{DISTILLATION}/test_update.py::test_a_self_teacher_with_the_same_weights_and_prompt_has_nothing_to_teach",
    ),
    Mutation(
        "prompts are padded on the right for scoring",
        "opcod/distillation/scoring.py",
        "rows.append([pad_id] * left + [*prompt, *response] + [pad_id] * right)\n"
        "        mask.append([0] * left + [1] * (len(prompt) + len(response)) + [0] * right)",
        "rows.append([*prompt] + [pad_id] * left + [*response] + [pad_id] * right)\n"
        "        mask.append([1] * len(prompt) + [1] * left + [1] * len(response) + [0] * right)",
        f"{DISTILLATION}/test_scoring.py::test_each_token_is_predicted_as_it_is_in_its_row_alone",
    ),
    Mutation(
        "positions count the padding",
        "opcod/distillation/scoring.py",
        "return (attention_mask.cumsum(-1) - 1).clamp(min=0)",
        "return torch.arange(attention_mask.shape[-1], device=attention_mask.device).expand_as(attention_mask)",
        f"{DISTILLATION}/test_scoring.py::test_each_token_is_predicted_as_it_is_in_its_row_alone",
    ),
    Mutation(
        "padding is scored as tokens",
        "opcod/distillation/scoring.py",
        "response_mask=attention_mask[:, prompt_width:].bool()",
        "response_mask=torch.ones_like(attention_mask[:, prompt_width:]).bool()",
        f"{DISTILLATION}/test_scoring.py::test_padding_keeps_every_token_and_masks_every_other",
    ),
    Mutation(
        "in a packed row, what follows a shared beginning stands one position late",
        "opcod/distillation/packing.py",
        "positions += range(prefix, prefix + len(tail))",
        "positions += range(prefix + 1, prefix + 1 + len(tail))",
        f"{DISTILLATION}/test_packing.py::TestOutputs::test_are_those_of_each_text_alone",
    ),
    Mutation(
        "in a packed row, a token sees the one after it",
        "opcod/distillation/packing.py",
        ".tril(prefix)",
        ".tril(prefix + 1)",
        f"{DISTILLATION}/test_packing.py::TestOutputs::test_are_those_of_each_text_alone",
    ),
    Mutation(
        "in a packed row, a response is read one place early",
        "opcod/distillation/packing.py",
        "range(len(ids) - len(responses[row]), len(ids))",
        "range(len(ids) - len(responses[row]) - 1, len(ids) - 1)",
        f"{DISTILLATION}/test_packing.py::TestOutputs::test_are_those_of_each_text_alone",
    ),
    Mutation(
        "layers that are computed again forget the packed row",
        "opcod/students/loading.py",
        ', "context_fn": recomputing',
        "",
        f"{DISTILLATION}/test_packing.py::TestGradients::test_are_those_of_rows_apart",
    ),
    Mutation(
        "the mask goes by the padding token's id, which ends turns too",
        "opcod/distillation/scoring.py",
        "response_mask=attention_mask[:, prompt_width:].bool()",
        "response_mask=input_ids[:, prompt_width:] != pad_id",
        f"{DISTILLATION}/test_scoring.py::test_an_end_of_turn_token_that_is_also_the_padding_token_is_scored_once",
    ),
    Mutation(
        "dropout makes the policy that is scored another than the one that sampled",
        "opcod/students/loading.py",
        "model = without_dropout(_complete_model(path, ref, config=config, dtype=dtype))",
        "model = _complete_model(path, ref, config=config, dtype=dtype)",
        "tests/unit/students/test_loading.py::test_training_mode_says_the_same_as_evaluation_mode",
    ),
    Mutation(
        "the engine drops the end-of-turn token",
        "opcod/generation/transformers.py",
        "Generation(said[begin:end], scores[begin:end], done)",
        "Generation(said[begin : end - done], scores[begin : end - done], done)",
        "tests/unit/generation/test_transformers_engine.py::test_a_row_stops_at_its_end_and_the_others_go_on",
    ),
    Mutation(
        "the step leaves the end-of-turn token out of the loss",
        "opcod/training/step.py",
        "ScoredResponse(sample.prompt, generation.token_ids, generation.log_probs,",
        "ScoredResponse(sample.prompt, generation.token_ids[:-1], generation.log_probs[:-1],",
        "tests/integration/test_against_trl_trainer.py",
    ),
    Mutation(
        "nothing is cut from feedback",
        "opcod/feedback/sanitizing.py",
        "        spans = _reveals(text)\n",
        "        spans: list[tuple[int, int]] = []\n",
        "tests/unit/feedback/test_sanitizing.py::test_a_reveal_is_cut",
    ),
    Mutation(
        "feedback is judged but not sanitised",
        "opcod/feedback/review.py",
        "    clean = sanitize(raw)\n",
        '    clean = type(sanitize(""))(raw)\n',
        "tests/unit/feedback/test_review.py::test_no_style_lets_a_reveal_through",
    ),
    Mutation(
        "an anchor counts though the question does not hold it",
        "opcod/feedback/anchoring.py",
        '"kept" if matched else "no_match"',
        '"kept"',
        "tests/unit/feedback/test_anchoring.py::test_each_feedback_ends_in_its_outcome",
    ),
    Mutation(
        "evaluation uses the training sampler",
        "opcod/evaluation/accuracy.py",
        "evaluation.temperature, evaluation.top_p",
        "generation.temperature, generation.top_p",
        f"{RUN}::test_the_gate_reads_validation_scores_with_the_evaluation_sampler",
    ),
    Mutation(
        "the gate reads test data",
        "opcod/training/trainer.py",
        'self._evaluate(round - 1, "validation")\n        scores = scores_of(self.evaluations, round=round - 1, split="validation")',
        'self._evaluate(round - 1, "test")\n        scores = scores_of(self.evaluations, round=round - 1, split="test")',
        f"{RUN}::test_the_gate_reads_validation_scores_with_the_evaluation_sampler",
    ),
    Mutation(
        "the gap is absolute, not relative",
        "opcod/feedback/gating.py",
        "math.fsum((best[domain] - of[domain]) / best[domain] for",
        "math.fsum((best[domain] - of[domain]) for",
        "tests/unit/feedback/test_gating.py::test_the_methods_example",
    ),
    Mutation(
        "under round_start the second phase is tutored by the peer as its own phase left it",
        "opcod/training/trainer.py",
        'if self.config.schedule.tutor_snapshot == "latest":',
        "if True:",
        f"{RUN}::test_a_phase_is_tutored_by_the_peer_as_the_round_began_or_as_its_own_phase_left_it",
    ),
    Mutation(
        "the moving average is updated before the optimiser's step",
        "opcod/training/update.py",
        "        norm = learner.optimizer.step()\n        if learner.teacher is not None:\n"
        "            learner.teacher.update(learner.model)  # after the optimiser's step (method section 10)\n",
        "        if learner.teacher is not None:\n            learner.teacher.update(learner.model)\n"
        "        norm = learner.optimizer.step()\n",
        f"{DISTILLATION}/test_update.py::test_the_teacher_takes_in_the_weights_that_the_update_made",
    ),
    Mutation(
        "the moving average is not restored on resume",
        "opcod/training/student_host.py",
        '            self.teacher.load_state_dict(tensors["teacher"])',
        "            pass",
        f"{RUN}::test_a_stopped_run_goes_on_as_if_it_had_not_been",
    ),
    Mutation(
        "the optimiser is not restored on resume",
        "opcod/training/student_host.py",
        '        self.optimizer.load_state_dict(tensors["optimizer"])',
        "        pass",
        f"{RUN}::test_a_stopped_run_goes_on_as_if_it_had_not_been",
    ),
    Mutation(
        "an empty batch is trained on",
        "opcod/training/step.py",
        "        if not taught:\n            continue\n",
        "        taught = taught or list(mini_batch)\n",
        f"{STEP}::test_an_empty_batch_changes_nothing_and_is_counted",
    ),
    Mutation(
        "responses with nothing to show stay in the loss",
        "opcod/training/step.py",
        "            if solution is None and feedback is None:\n                continue\n",
        "",
        f"{STEP}::test_a_rollout_with_nothing_to_show_is_masked_out",
    ),
    Mutation(
        "a loss that is not finite goes on",
        "opcod/training/update.py",
        "    if not math.isfinite(loss):",
        "    if False:",
        f"{STEP}::test_a_loss_that_is_not_finite_stops_the_run",
    ),
    Mutation(
        "gradients reach the teacher",
        "opcod/distillation/divergence.py",
        "teacher_logits.detach()",
        "teacher_logits",
        f"{DISTILLATION}/test_divergence.py::TestGradient::test_reaches_the_student_alone",
    ),
    Mutation(
        "the gradient runs through the importance weight",
        "opcod/distillation/loss.py",
        "(log_probs - rollout_log_probs).detach()",
        "(log_probs - rollout_log_probs)",
        f"{DISTILLATION}/test_loss.py::TestImportanceWeights::test_equal_trl_and_let_no_gradient_through",
    ),
    Mutation(
        "forward and reverse KL are exchanged",
        "opcod/distillation/divergence.py",
        "    if alpha == 0.0:",
        "    alpha = 1.0 - alpha\n    if alpha == 0.0:",
        f"{DISTILLATION}/test_divergence.py::TestByHand::test_the_ends_are_the_two_kl_divergences_the_right_way_round",
    ),
    Mutation(
        "the support is the teacher's top K",
        "opcod/distillation/divergence.py",
        "    support = student_support(student_logits, top_k=top_k, tail_bucket=tail_bucket)\n",
        "    support = student_support(teacher_logits, top_k=top_k, tail_bucket=tail_bucket)\n"
        "    support = Support(teacher_on_support(student_logits, support.indices, tail_bucket=tail_bucket), support.indices)\n",
        f"{DISTILLATION}/test_divergence_against_trl.py",
    ),
    Mutation(
        "the temperature is left out of the loss",
        "opcod/distillation/loss.py",
        "return wide if temperature == 1 else wide / temperature",
        "return wide",
        f"{DISTILLATION}/test_loss.py::TestScores::test_equal_the_plain_divergence_whatever_the_chunks",
    ),
    Mutation(
        "GRPO divides by the standard deviation",
        "opcod/distillation/grpo.py",
        "return [reward - mean for reward in rewards]",
        "deviation = (sum((reward - mean) ** 2 for reward in rewards) / len(rewards)) ** 0.5 or 1.0\n"
        "    return [(reward - mean) / deviation for reward in rewards]",
        f"{DISTILLATION}/test_grpo.py::test_advantages_are_centred_and_not_divided_by_the_standard_deviation",
    ),
]


def table() -> str:
    """The faults and their tests as Markdown."""
    rows = [f"| {mutation.what} | `{mutation.test.removeprefix('tests/')}` |" for mutation in MUTATIONS]
    return "\n".join(["| fault | test, below `tests/` |", "|---|---|", *rows])


def is_caught(mutation: Mutation, folder: Path) -> bool:
    """Whether the test passes in the copy as it is and fails with the fault in it."""
    path = folder / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.what!r}: {mutation.file} holds the text to replace {source.count(mutation.old)} times")
    try:
        path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        return run_test(mutation.test, folder) == 1
    finally:
        path.write_text(source, encoding="utf-8")


def run_test(test: str, folder: Path) -> int:
    """pytest's exit status: 0 passed, 1 failed, above: it could not run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    ).returncode


def main() -> int:
    """Run the faults that the command line picks; 1 when one went unseen."""
    if "--table" in sys.argv:
        print(table())
        return 0
    chosen = [mutation for mutation in MUTATIONS if all(word in mutation.what for word in sys.argv[1:])]
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for item in COPIED:
            source = ROOT / item
            if source.is_dir():
                shutil.copytree(source, folder / item, ignore=shutil.ignore_patterns("__pycache__", "results"))
            elif source.exists():
                shutil.copy(source, folder / item)
        for test in sorted({mutation.test for mutation in chosen}):
            if run_test(test, folder):
                print(f"FAILS WITHOUT A FAULT: {test}", flush=True)
                missed.append(test)
        for mutation in chosen:
            caught = is_caught(mutation, folder)
            print(f"{'caught' if caught else 'UNSEEN'}: {mutation.what} ({mutation.test})", flush=True)
            if not caught:
                missed.append(mutation.what)
    print(f"{len(chosen)} faults; {len(missed)} unseen or with a test that fails anyway.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
