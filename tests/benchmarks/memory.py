"""The memory of a run as it is computed, against what the same code holds: every tensor of a pair of small students, counted.

    make memory

Real steps of real hosts on the CPU; a counter adds up the tensors as they are made and let go (`opcod.profiling.held`), so that
what torch and its kernels take for themselves stays out. The tables go into docs/memory.md, the figures into docs/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import string
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, product
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen3Config  # noqa: E402
from transformers.utils.logging import disable_progress_bar  # noqa: E402

from opcod.config import ExperimentConfig, load_preset, merge, parse_config  # noqa: E402
from opcod.distillation import loss, readout  # noqa: E402
from opcod.estimation import space  # noqa: E402
from opcod.estimation.behaviour import Behaviour  # noqa: E402
from opcod.estimation.memory import memory  # noqa: E402
from opcod.estimation.models import ModelShape, shape_of  # noqa: E402
from opcod.estimation.space import student_bytes  # noqa: E402
from opcod.generation import prefill  # noqa: E402
from opcod.profiling.held import Held  # noqa: E402
from opcod.stopwatch import Stopwatch, measuring  # noqa: E402
from opcod.tasks.questions import load_domains  # noqa: E402
from opcod.training.hosts import LocalHosts, open_hosts  # noqa: E402
from opcod.training.student_host import StudentHost  # noqa: E402
from opcod.types import GateDecision  # noqa: E402

PAIR = ("ann", "bob")
BEGIN, END = "<!-- tables: made by `make memory` -->", "<!-- end of tables -->"
PHASES = ("evaluation", "rollout", "feedback", "update")
PROMPT = 40
SMALL: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256}


def qwen3(hidden: int, layers: int, vocabulary: int) -> PreTrainedConfig:
    """With the proportions of Qwen3-8B: heads of 128 there, queries as wide as the hidden state, feed-forward three times."""
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": hidden // 8}
    return Qwen3Config(vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, **heads, **SMALL)


def llama(hidden: int, layers: int, vocabulary: int) -> PreTrainedConfig:
    """With those of Llama-3.1-8B."""
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2}
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=7 * hidden // 2, num_hidden_layers=layers, **heads, **SMALL
    )


LORA = {"dtype": "bfloat16", "adapters": {"rank": 8}}
WHOLE = space.CHUNK_LOGITS
CHUNK = 2**19
"""Logits that the loss reads out at once here: scaled down with the students, so that it goes by chunks as with large ones."""
CASES: Mapping[str, tuple[PreTrainedConfig, dict[str, Any], dict[str, Any]]] = {
    "Qwen3, 256 x 8": (qwen3(256, 8, 8192), {**LORA, "gradient_checkpointing": True}, {}),
    "Qwen3, 512 x 3": (qwen3(512, 3, 4096), {**LORA, "gradient_checkpointing": True}, {}),
    "Llama, 256 x 6": (llama(256, 6, 16_384), {**LORA, "gradient_checkpointing": True}, {}),
    "Llama, 256 x 6, activations kept": (llama(256, 6, 16_384), LORA, {}),
    "Llama, 256 x 4, float32": (llama(256, 4, 8192), {"adapters": {"rank": 8}, "gradient_checkpointing": True}, {}),
    "Qwen3, 384 x 5, longer, not settled on": (
        qwen3(384, 5, 12_288),
        {**LORA, "gradient_checkpointing": True, "micro_batch_tokens": 700},
        {"max_response_tokens": 56},
    ),
    "Llama, 128 x 12, not settled on": (llama(128, 12, 8192), {**LORA, "gradient_checkpointing": True}, {"rollouts": 6}),
    "Llama, 256 x 4, every weight": (llama(256, 4, 8192), {"dtype": "bfloat16", "gradient_checkpointing": True}, {}),
}


def make_model(folder: Path, config: PreTrainedConfig) -> None:
    """Random weights, and a tokenizer whose every token is text."""
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    build(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = ("".join(letters) for letters in chain(product(string.ascii_letters, repeat=2), product(string.ascii_letters, repeat=3)))
    words = [*alphabet, *islice(pairs, config.vocab_size - len(alphabet) - 1)]
    words.insert(256, "<|end|>")
    core = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    wrap: Any = PreTrainedTokenizerFast
    wrap(tokenizer_object=core, eos_token="<|end|>").save_pretrained(folder)


def settings(folder: Path, compute: Mapping[str, Any], generation: Mapping[str, Any]) -> ExperimentConfig:
    """Questions of one length, feedback that is always kept, nothing recorded token by token."""
    for split in ("train", "validation", "test"):
        rows = [{"id": f"{split}{place}", "prompt": f"{split[:2]}{place:02}".ljust(PROMPT, "?"), "answer": "!"} for place in range(8)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    short = "Question: {question}\n\nResponse: {response}"
    feedback = {"style": "generic", "max_tokens": 16, "templates": {"generic": short}}
    domain = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    base = {
        "students": [{"name": name, "model": str(folder / "base")} for name in PAIR],
        "domains": [{"name": "physics", "verifier": {"kind": "exact"}, **domain}],
        "method": {"feedback": feedback},
        "schedule": {"questions_per_step": 2},
        "generation": {"rollouts": 4, "max_response_tokens": 32},
        "evaluation": {"samples": 2, "validation_questions": 8, "test_questions": 8},
        "recording": {"token_questions": 0},
        "compute": {"device": "cpu", "threads": 1, "micro_batch_tokens": 1024},
    }
    return parse_config(merge(base, {"compute": compute, "generation": generation}))


def standing(hosts: Mapping[str, StudentHost]) -> int:
    """Bytes of all weights, averages, masters and moments, each storage once; tutors left out."""
    held: list[torch.Tensor] = []
    for host in hosts.values():
        for model in (host.student.model, *([host.teacher.model] if host.teacher else [])):
            held += [*model.parameters(), *model.buffers()]
        held += [*host.teacher._average.values()] if host.teacher else []
        held += [*host.optimizer._masters.values()]
        held += [value for state in host.optimizer._adamw.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in held}.values())


def longest_prompt(host: StudentHost, seen: dict[str, int]) -> None:
    """Note how long the prompts are that the tutors are given."""
    for tutor in host.tutoring.tutors.values():
        generate = tutor.policy.engine.generate

        def noting(prompts: Sequence[Sequence[int]], *rest: Any, generate: Any = generate, **named: Any) -> Any:
            seen["feedback_prompt"] = max(map(len, prompts))
            return generate(prompts, *rest, **named)

        tutor.policy.engine.generate = noting  # type: ignore[method-assign]


@mock.patch.object(prefill, "SHARE_BELOW", 0.0)
def measure(config: ExperimentConfig, folder: Path) -> tuple[int, dict[str, int], Behaviour]:
    """Bytes that stand, and that each phase of the first student's second step adds; and what it did.

    Prompts that begin alike are computed apart, as those are that share nothing.
    """
    decisions = [GateDecision(1, name, "always", 0.0, 0.2, True, ("physics",)) for name in PAIR]
    scores = {name: {"physics": 0.5} for name in PAIR}
    hosts = open_hosts(config, folder, load_domains(config.domains))
    assert isinstance(hosts, LocalHosts)
    hosts.ask(*((name, "freeze_tutor", ()) for name in PAIR))
    for name, peer in zip(reversed(PAIR), PAIR, strict=True):  # moments are made by the first update
        hosts.ask((name, "begin_phase", (decisions, scores, {peer: 0})), (name, "step", (1, 1, False)), (name, "end_phase", ()))
    stands = standing(hosts.hosts)
    host, seen, phases = hosts.hosts["ann"], dict[str, int](), {}
    with Held() as held:
        host.evaluate(0, "validation")
    phases["evaluation"] = held.peak
    with Held() as held:
        host.begin_phase(decisions, scores, {"bob": 0})
    before = tutors(host)
    longest_prompt(host, seen)
    with Held() as held, measuring(Stopwatch(held)) as watch:
        metrics = host.step(1, 2, False).metrics
    for name in ("rollout", "feedback", "update"):
        phases[name] = before + (watch.whole.parts["step"].parts[name].peak_bytes or 0)
    assert metrics["ann/train/updates"] == 1
    length = config.generation.max_response_tokens
    did = Behaviour(
        prompt=metrics["ann/prompt/length_mean"], response=metrics["ann/response/length_mean"], longest=length,
        feedback_prompt=seen["feedback_prompt"], feedback=metrics["ann/feedback/length_mean"],
        feedback_longest=config.method.feedback.max_tokens, teacher_prompt=metrics["ann/self_distillation/prompt_length_mean"],
        asked=1.0, kept=1.0, solved=0.0, spread=0.0, known=True,
    )  # fmt: skip
    return stands, phases, did


def tutors(host: StudentHost) -> int:
    """Bytes of the tutors' weights that are not the student's too."""
    own = {weight.untyped_storage().data_ptr() for weight in host.student.model.parameters()}
    theirs = [weight for tutor in host.tutoring.tutors.values() for weight in tutor.policy.student.model.parameters()]
    return sum({one.untyped_storage().data_ptr(): one.nbytes for one in theirs if one.untyped_storage().data_ptr() not in own}.values())


def shape(config: PreTrainedConfig) -> ModelShape:
    """Of a model that is never made."""
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        model = build(config)
    return shape_of(config.to_dict(), {name: list(weight.shape) for name, weight in model.named_parameters()})


def compare() -> Iterator[dict[str, Any]]:
    """Every case, computed and measured."""
    for name, (model, compute, generation) in CASES.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            make_model(folder / "base", model)
            config = settings(folder, compute, generation)
            stands, added, did = measure(config, folder)
        known = shape(model)
        students = [student_bytes(config, place, [known] * 2, did) for place in range(2)]
        computed = students[0].base * (1 if config.compute.adapters else 2) + sum(student.standing for student in students)
        yield {
            "case": name,
            "parameters": known.parameters,
            "standing": {"computed": computed, "measured": stands},
            "added": {phase: {"computed": students[0].peaks()[phase], "measured": added[phase]} for phase in PHASES},
        }


LARGE: Mapping[str, PreTrainedConfig] = {
    "Qwen3-8B": Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, tie_word_embeddings=False,
    ),
    "Llama-3.1-8B": LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        tie_word_embeddings=False,
    ),
}  # fmt: skip
DEVICE = 80 * 10**9
CHANGES: dict[str, Any] = {
    "compute": {"adapters": {"rank": 8}, "micro_batch_tokens": 16_384},
    "generation": {"batch_size": 40},
    "method": {"feedback": {"batch_size": 12}},
    "evaluation": {"samples": 16},
}
"""To the paper's settings, for one GPU of 80 GB."""


def pairs() -> Iterator[dict[str, Any]]:
    """Pairs of 8B students under the paper's settings, each text as long as these allow: of one model, and of two of the same shape."""
    for name, large in LARGE.items():
        known = shape(large)
        for bases in (1, 2):
            students = [{"name": one, "model": name if bases == 1 else f"{name}, {one}"} for one in PAIR]
            config = parse_config(merge(load_preset("paper"), {**CHANGES, "students": students}))
            found = memory(config, [known] * 2)
            yield {
                "pair": f"{name}, {'one model' if bases == 1 else 'two models'}",
                "parameters": known.parameters,
                "fits": found.fits(DEVICE),
                **found.model_dump(),
            }


def tables(cases: Sequence[Mapping[str, Any]], large: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown."""

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    def mib(one: Mapping[str, int]) -> str:
        computed, measured = one["computed"], one["measured"]
        return f"{computed / 2**20:.1f} / {measured / 2**20:.1f} ({100 * (computed / measured - 1):+.0f}%)"

    made = [line("computed / measured, MiB", "stands", *PHASES), line("---", *["--:"] * (1 + len(PHASES)))]
    for case in cases:
        name = f"{case['case']} ({case['parameters'] / 1e6:.0f} M)"
        made.append(line(name, mib(case["standing"]), *(mib(case["added"][phase]) for phase in PHASES)))
    made += [
        "",
        line("peak, GB", "bases", "adapters, optimiser, self-teachers, tutor", *PHASES, "into 80 GB"),
        line("---", *["--:"] * (3 + len(PHASES))),
    ]
    for pair in large:
        own = sum(pair[part] for part in ("adapters", "optimizer", "teachers", "tutors"))
        phases = pair["processes"][0]["phases"]
        figures = [sum(pair["bases"].values()), own, *(phases[phase] for phase in PHASES)]
        made.append(line(pair["pair"], *(f"{value / 1e9:.1f}" for value in figures), "fits" if pair["fits"] else "does not fit"))
    return "\n".join(made)


def insert(document: str, made: str) -> str:
    """The document with its tables replaced."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "memory.md")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "memory.json")
    given = parser.parse_args()
    disable_progress_bar()
    loss.CHUNK_LOGITS = readout.WHOLE_LOGITS = space.CHUNK_LOGITS = CHUNK
    cases = [*compare()]
    space.CHUNK_LOGITS = WHOLE
    large = [*pairs()]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    given.figures.write_text(json.dumps({"machine": machine, "cases": cases, "pairs": large}, indent=1) + "\n", encoding="utf-8")
    made = tables(cases, large)
    given.document.write_text(insert(given.document.read_text(encoding="utf-8"), made), encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
