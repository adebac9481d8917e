"""An experiment's configuration: one model for the YAML file, the REST body and the launch form.

Every field states its meaning, unit and source in its metadata, so that forms and API docs are made
from here. Defaults are the paper's (method section 7) where the paper has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from opcod.errors import ConfigError
from opcod.plain_text import bounded
from opcod.types import Algorithm, GateStrategy

MAX_YAML_CHARACTERS = 200_000
MAX_YAML_VALUES = 100_000
"""Keys counted, and values behind aliases as often as they stand for something."""
MAX_DEPTH = 32
"""Levels of settings that are still to be judged; those that there are need four."""
CPU_MICRO_BATCH_TOKENS = 16_384
"""What `compute.micro_batch_tokens: auto` is on a CPU, whose memory others share: a run's rounding must not depend on them."""
FIRST_MICRO_BATCH_TOKENS = 2048
"""What `auto` begins with on a GPU, before anything was measured."""
LONGEST_SOURCE = 500
"""Characters of a path or a hub id; tables of the service have indices over them."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Names become parts of metric names, folders and URLs."""


def one_printable_line(value: str) -> str:
    """`value`, if it is.

    Raises:
        ValueError
    """
    if not value.isprintable() or not value.strip():
        raise ValueError("must be printable text on one line")
    return value


def _field(default: Any, description: str, *, unit: str = "", source: str = "", **limits: Any) -> Any:
    extra: dict[str, Any] = {key: value for key, value in (("unit", unit), ("source", source)) if value}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ServerConfig(_Section):
    """A server that holds the student's weights as they came."""

    url: str = _field(
        ...,
        "Its address up to `/v1`: vLLM, llama.cpp or `transformers serve`, such as `http://localhost:8000/v1`.",
        min_length=1,
        max_length=LONGEST_SOURCE,
    )
    model: str = _field(..., "What the student is called there.", min_length=1, max_length=LONGEST_SOURCE)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or not value.isprintable() or " " in value:
            raise ValueError("must be an http:// or https:// address")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment")
        return value.rstrip("/")


class StudentConfig(_Section):
    """One student."""

    name: Name = _field(..., "What it is called here, and in the names of its metrics: letters, digits, `_`, `.` and `-`.")
    model: str = _field(
        ..., "Hub id, local folder (safetensors), or `demo:NAME` for a built-in specialist.", min_length=1, max_length=LONGEST_SOURCE
    )
    native_domain: str | None = _field(None, "Domain in which it is the stronger one; named in the feedback prompt.")
    server: ServerConfig | None = _field(
        None,
        "A server with exactly these weights, asked while the student is as it came: for its first scores, and for feedback "
        "before its first update. Empty: the run's own engine does everything.",
    )


class ColumnsConfig(_Section):
    """Which column of a data file holds what."""

    id: str | None = _field("id", "Question id; rows are numbered where the column is missing.")
    prompt: str = _field("prompt", "Question text as the student sees it.")
    answer: str = _field("answer", "Reference answer.")
    system: str | None = _field("system", "System prompt of the row, if the column exists.")
    solution: str | None = _field("solution", "Worked solution, if the column exists; used by SFT only.")


class VerifierConfig(_Section):
    """How an answer is checked."""

    kind: Literal["multiple_choice", "exact", "number", "math"] = _field(
        "multiple_choice",
        "multiple_choice: the letter in the last <answer> tag. exact: text in the last <answer> tag. "
        "number: a number in the last <answer> tag, units stripped. math: \\boxed{} mathematics.",
    )
    relative_tolerance: float = _field(1e-3, "Accepted relative error of `number`.", ge=0, le=1)
    absolute_tolerance: float = _field(1e-9, "Accepted absolute error of `number`.", ge=0)


class DomainConfig(_Section):
    """One domain: disjoint train, validation and test questions.

    A source is a path to JSONL, CSV or Parquet, `hub:OWNER/NAME[@CONFIG]:SPLIT`, or `demo:DOMAIN:SPLIT`;
    a slice of rows may follow: `train.jsonl[60:]`.
    """

    name: Name = _field(..., "What it is called here, and in the feedback prompt: letters, digits, `_`, `.` and `-`.")
    train: str = _field(..., "Source of the training questions.", min_length=1, max_length=LONGEST_SOURCE)
    validation: str = _field(
        ..., "Source of the questions that the gate reads; never test questions.", min_length=1, max_length=LONGEST_SOURCE
    )
    test: str = _field(..., "Source of the questions of the final score.", min_length=1, max_length=LONGEST_SOURCE)
    verifier: VerifierConfig = VerifierConfig()
    columns: ColumnsConfig = ColumnsConfig()
    system_prompt: str | None = _field(None, "System prompt for rows that bring none.", max_length=20_000)
    overlap: Literal["refuse", "drop_from_train"] = _field(
        "refuse", "What to do with a training question that stands in validation or test: refuse the run, or drop it from training."
    )


class GateConfig(_Section):
    """Who may tutor."""

    strategy: GateStrategy = _field("cognizance", "Gating strategy.", source="Eq. 2, Figure 7")
    threshold: float = _field(0.2, "tau: the largest cognizance gap that may tutor.", unit="relative gap", source="section 4.1", ge=0)


class FeedbackTemplates(_Section):
    """Prompt templates; None takes the built-in wording. `opcod.feedback.prompts` lists the placeholders."""

    anchored: str | None = _field(None, "Two-step prompt: anchor, then critique.", source="Appendix C", max_length=20_000)
    generic: str | None = _field(None, "One-step prompt without an anchor.", max_length=20_000)


class FeedbackConfig(_Section):
    """What a tutor is asked."""

    style: Literal["anchored", "generic"] = _field("anchored", "Anchored two-step feedback or the generic baseline.", source="Appendix C")
    max_tokens: int = _field(1024, "Longest feedback.", unit="tokens", source="paper", ge=1, le=32_768)
    max_prompt_tokens: int = _field(
        8192, "Longest tutor prompt; a longer one is cut in the response it shows.", unit="tokens", source="paper", ge=16
    )
    temperature: float = _field(1.0, "Sampling temperature of feedback; 0 is greedy.", ge=0, le=5)
    top_p: float = _field(1.0, "Nucleus of the feedback sampler.", gt=0, le=1)
    batch_size: int = _field(256, "Feedbacks generated together.", unit="sequences", ge=1)
    templates: FeedbackTemplates = FeedbackTemplates()


class TeacherConfig(_Section):
    """The self-teacher: the tutee's moving average with more context."""

    ema_rate: float = _field(
        0.05, "Share of the student's weights that enters the teacher after each update.", source="section 4", ge=0, le=1
    )
    template: str | None = _field(None, "Template of the self-teacher's user turn; None takes the built-in wording.", max_length=20_000)
    max_tokens: int = _field(10_240, "Longest self-teacher prompt.", unit="tokens", source="paper", ge=16)


class LossConfig(_Section):
    """The distillation loss (Eq. 1)."""

    alpha: float = _field(0.5, "0 forward KL, 0.5 Jensen-Shannon, 1 reverse KL.", source="Eq. 1", ge=0, le=1)
    top_k: int | None = _field(
        100, "Student's most likely tokens that are compared; empty: the whole vocabulary.", unit="tokens", source="paper", ge=1
    )
    tail_bucket: bool = _field(True, "Compare the remaining mass as one more bucket; off: renormalise the top K.", source="SDPO code")
    importance_clip: float | None = _field(2.0, "Largest importance weight; empty: no weights.", source="SDPO code", gt=0)
    aggregation: Literal["token_mean", "sequence_mean"] = _field(
        "token_mean", "Mean over all tokens of the batch, or over tokens and then responses.", source="SDPO code; Eq. 1"
    )


class GrpoConfig(_Section):
    """The GRPO baseline (method section 6)."""

    clip: float = _field(0.2, "PPO clip range of the ratio.", source="paper", gt=0, lt=1)
    importance_threshold: float = _field(2.0, "Largest token-level importance correction.", source="paper", gt=0)


class MethodConfig(_Section):
    """What is trained, and how."""

    algorithm: Algorithm = _field("opcod", "opcod, or a baseline: sdpo (no tutors), grpo (rewards only).")
    gate: GateConfig = GateConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    grpo: GrpoConfig = GrpoConfig()


class ScheduleConfig(_Section):
    """Algorithm 1's loop."""

    rounds: int = _field(2, "R: validate, gate, and one phase a student.", source="paper: 2 x 50 or 5 x 20", ge=1, le=1000)
    steps_per_round: int = _field(50, "K: updates of a student in its phase.", source="paper", ge=1, le=10_000)
    questions_per_step: int = _field(32, "Questions in a batch.", unit="questions", source="paper", ge=1, le=4096)
    tutor_snapshot: Literal["round_start", "latest"] = _field(
        "round_start",
        "Tutors as they were when the round began, or as the last phase left them.",
        source="Algorithm 1; implementation notes",
    )


class GenerationConfig(_Section):
    """How rollouts are sampled."""

    rollouts: int = _field(8, "n: rollouts of each question.", source="paper", ge=1, le=256)
    temperature: float = _field(1.0, "Sampling temperature.", source="paper", gt=0, le=5)
    top_p: float = _field(1.0, "Nucleus.", source="paper", gt=0, le=1)
    max_prompt_tokens: int = _field(2048, "Longest question; a longer one is refused.", unit="tokens", source="paper", ge=1)
    max_response_tokens: int = _field(4096, "Longest response.", unit="tokens", source="paper", ge=1)
    batch_size: int = _field(256, "Responses generated together.", unit="sequences", ge=1)


class OptimizerConfig(_Section):
    """AdamW with a linear warm-up, then constant."""

    learning_rate: float = _field(1e-5, "Learning rate after the warm-up.", source="paper", gt=0, le=1)
    warmup_steps: int = _field(5, "Updates over which the rate rises from 0.", unit="updates", source="paper", ge=0)
    weight_decay: float = _field(0.01, "Decoupled weight decay.", source="paper", ge=0, le=1)
    beta1: float = _field(0.9, "AdamW beta 1.", ge=0, lt=1)
    beta2: float = _field(0.999, "AdamW beta 2.", ge=0, lt=1)
    gradient_clip: float = _field(1.0, "Largest gradient norm.", source="paper", gt=0)
    mini_batch_questions: int | None = _field(
        None, "Questions of one update; empty: the whole batch in one.", unit="questions", source="paper: 32", ge=1
    )


class EvaluationConfig(_Section):
    """How students are scored: its own sampler, never the training one."""

    samples: int = _field(16, "k of avg@k: answers sampled to each question.", source="paper", ge=1, le=1024)
    temperature: float = _field(0.6, "Sampling temperature of evaluation; 0 is greedy.", source="paper", ge=0, le=5)
    top_p: float = _field(0.95, "Nucleus of evaluation.", source="paper", gt=0, le=1)
    validation_questions: int | None = _field(
        60, "Validation questions a gate decision reads, balanced over the domains; empty: all.", unit="questions", source="paper", ge=1
    )
    test_questions: int | None = _field(None, "Test questions scored a domain; empty: all.", unit="questions", ge=1)
    initial_test: bool = _field(True, "Score the test questions before training too; the verdict needs it.")
    break_rescue_questions: int = _field(
        0, "Questions a phase on which break and rescue rates are sampled; 0: none.", unit="questions", ge=0, le=4096
    )


class RecordingConfig(_Section):
    """What is kept."""

    checkpoint_every_steps: int = _field(10, "Updates between checkpoints inside a phase.", unit="updates", ge=1)
    keep_checkpoints: int = _field(2, "Newest checkpoints kept; older ones are deleted.", ge=1, le=1000)
    keep_first: bool = _field(False, "Keep the first checkpoint too: the students as they came.")
    keep_best: bool = _field(False, "Keep the checkpoint with the best mean validation score too.")
    token_questions: int | None = _field(
        8,
        "Questions of each step whose rollouts are recorded token by token, some 30 bytes a token; 0: none, empty: all.",
        unit="questions",
        ge=0,
        le=4096,
    )
    token_alternatives: int = _field(
        5, "Most likely next tokens of student and self-teacher that are recorded with each token.", unit="tokens", ge=0, le=20
    )


class AdaptersConfig(_Section):
    """LoRA instead of full fine-tuning."""

    rank: int = _field(8, "Rank.", source="Appendix D.1", ge=1, le=1024)
    alpha: float = _field(16, "Scale numerator.", gt=0)
    dropout: float = _field(0.0, "Dropout on the adapter's input.", ge=0, lt=1)
    targets: str | list[str] = _field("all-linear", "Modules that get an adapter.", source="Appendix D.1")


class ComputeConfig(_Section):
    """Where it runs."""

    device: str = _field("auto", "auto, cpu, cuda or cuda:N.", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    gpu_memory_gib: float | None = _field(
        None, "The run waits for a worker whose GPU has at least so much memory; empty: for any.", unit="GiB", gt=0, le=10_000
    )
    dtype: Literal["float32", "bfloat16"] = _field("float32", "Precision of weights and activations.")
    adapters: AdaptersConfig | None = _field(
        None, "LoRA adapters; empty: every weight is trained. Students of one model share its weights, and their tutors and teachers too."
    )
    gpus: int = _field(
        1,
        "GPUs that train a student together, one process each; where device is cpu, processes on the CPU. Each takes its share of a "
        "step's questions and responses. Same result up to rounding; side_by_side: so many for each student, where there are as many.",
        ge=1,
        le=64,
    )
    engine: Literal["auto", "transformers", "vllm"] = _field(
        "auto",
        "What samples the text: transformers, or vLLM within the process, on the GPU that trains, where a worker has it installed. "
        "auto is transformers.",
    )
    vllm_memory_fraction: float = _field(
        0.3,
        "Share of the GPU's memory that vLLM takes while it samples, weights included; it is free at all other times.",
        gt=0,
        lt=1,
    )
    cuda_graphs: bool = _field(
        True,
        "On one GPU, the run's own engine records the pass of a token of every response once and replays it, many tokens long, where the "
        "model's family allows it. Same result up to rounding.",
    )
    micro_batch_tokens: Annotated[int, Field(ge=64)] | Literal["auto"] = _field(
        "auto",
        "Tokens computed together in an update, padding included. auto: on a GPU as many as its memory is measured to carry, "
        f"on a CPU {CPU_MICRO_BATCH_TOKENS:,}.",
        unit="tokens",
    )
    gradient_checkpointing: bool = _field(False, "Recompute activations in the backward pass: less memory, more time.")
    side_by_side: bool = _field(
        False,
        "Run the phases of a round at once, one process a student. Same result; needs round_start tutors and memory for all students: "
        "each process has its own copy of the base of adapters, and a GPU of its own where device is auto or cuda and there are as many.",
    )
    threads: int | None = _field(None, "CPU threads of each student's process; empty: the cores shared among them.", ge=1, le=1024)

    @field_validator("micro_batch_tokens", mode="wrap")
    @classmethod
    def _number_or_auto(cls, value: Any, judge: ValidatorFunctionWrapHandler) -> Any:
        try:
            return judge(value)
        except ValidationError:  # which names each kind of value, at a place of its own
            raise ValueError("must be a whole number of at least 64, or auto") from None

    @property
    def known_micro_batch_tokens(self) -> int:
        """The number of `micro_batch_tokens`; where it is `auto`, that of a CPU."""
        return CPU_MICRO_BATCH_TOKENS if self.micro_batch_tokens == "auto" else self.micro_batch_tokens


class ExperimentConfig(_Section):
    """All of an experiment. The YAML file has these keys."""

    name: str = _field("experiment", "What you call it.", min_length=1, max_length=200)
    seed: int = _field(0, "Every random draw follows from it.", ge=0, le=2**31 - 1)
    students: list[StudentConfig] = _field(..., "Two or more students.", min_length=2, max_length=16)
    domains: list[DomainConfig] = _field(..., "One or more domains.", min_length=1, max_length=32)
    method: MethodConfig = MethodConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    generation: GenerationConfig = GenerationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recording: RecordingConfig = RecordingConfig()
    compute: ComputeConfig = ComputeConfig()

    _printable = field_validator("name")(one_printable_line)

    @field_validator("students", "domains")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        names = [item.name for item in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names must differ; {', '.join(twice)} stands twice")
        return value

    def with_compute(self, **changes: Any) -> ExperimentConfig:
        """The same settings with others in `compute`, which are not judged again."""
        return self.model_copy(update={"compute": self.compute.model_copy(update=changes)})

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentConfig:
        domains = {domain.name for domain in self.domains}
        for index, student in enumerate(self.students):
            if student.native_domain is not None and student.native_domain not in domains:
                raise ValueError(
                    f"students.{index}.native_domain: {student.native_domain!r} is no domain of this experiment; "
                    f"choose one of {', '.join(sorted(domains))}"
                )
        if self.compute.gpu_memory_gib is not None and self.compute.device == "cpu":
            raise ValueError("compute.gpu_memory_gib: a run on the CPU needs no GPU; leave it empty or choose another compute.device")
        if self.compute.gpus > 1 and ":" in self.compute.device:
            raise ValueError(f"compute.gpus: compute.device names one GPU, {self.compute.device}, for {self.compute.gpus}; set it to cuda")
        if self.compute.engine == "vllm" and self.compute.device == "cpu":
            raise ValueError("compute.engine: vllm samples on a GPU; choose transformers or another compute.device")
        if self.compute.engine == "vllm" and self.generation.top_p < 1:
            raise ValueError(
                "generation.top_p: vllm tells probabilities after the nucleus only, of no use for rollouts; take 1, or engine transformers"
            )
        if self.compute.engine == "vllm" and self.compute.gpus > 1:
            raise ValueError("compute.engine: vllm samples on one GPU; choose transformers for compute.gpus above 1")
        if self.compute.side_by_side and self.schedule.tutor_snapshot != "round_start":
            raise ValueError(
                "compute.side_by_side: phases depend on each other with tutor_snapshot `latest`; use round_start or turn it off"
            )
        return self

    def to_yaml(self) -> str:
        """The configuration as YAML, defaults included; `parse_yaml` reads it back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_config(data: Any) -> ExperimentConfig:
    """Validate plain data.

    Raises:
        ConfigError: with the first fault's path in `field` and all faults in the message.
    """
    try:
        return ExperimentConfig.model_validate(data)
    except ValidationError as error:
        faults = config_faults(error)
        lines = "; ".join(f"{path}: {message}" if path else message for path, message in faults)
        raise ConfigError(f"The configuration is not valid: {lines}.", advice="Mend these entries.", field=faults[0][0] or None) from None


def config_faults(error: ValidationError) -> list[tuple[str, str]]:
    """(dotted path, message) of every fault; a path that a rule across fields names at its start is split off."""
    faults = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        named = re.match(r"^([a-z_]+(?:\.[a-z0-9_]+)+): (.*)$", message, re.DOTALL)
        if not path and named:
            path, message = named.group(1), named.group(2)
        faults.append((path, message))
    return faults


class _Loader(yaml.SafeLoader):
    """JSON is YAML, but writes an emoji as two halves, which the library leaves apart.

    A short text with aliases of aliases can stand for billions of values: what it comes to is counted before it is built.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measured(node, {})
        return node


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_Loader.add_constructor("tag:yaml.org,2002:str", _whole)


def _measured(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, aliases followed, and how many levels it is deep.

    Raises:
        yaml.YAMLError: there are more of either than settings can have, or it holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1, 1
    if id(node) not in known:
        known[id(node)] = MAX_YAML_VALUES, 1  # until it is known: met again within itself
        below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes, depths = zip((1, 1), *(_measured(part, known) for part in below), strict=True)
        known[id(node)] = sum(sizes), 1 + max(depths)
    size, depth = known[id(node)]
    if size > MAX_YAML_VALUES:
        raise yaml.MarkedYAMLError(problem=f"it stands for more than {MAX_YAML_VALUES:,} values", problem_mark=node.start_mark)
    if depth > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem=f"it is nested more than {MAX_DEPTH} levels deep", problem_mark=node.start_mark)
    return size, depth


def parse_yaml(text: str) -> Any:
    """YAML text to plain data, safely.

    Raises:
        ConfigError: with the line at fault.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise ConfigError(
            f"The YAML is longer than {MAX_YAML_CHARACTERS:,} characters.", advice="Keep data in files, not in the configuration."
        )
    try:
        data = yaml.load(text, _Loader)
    except ValueError as error:  # what looks like a number or a date, and is none
        raise ConfigError(f"The YAML cannot be read: {bounded(str(error), 200)}.", advice="Put quotes around what is text.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"The YAML cannot be read{where}: {getattr(error, 'problem', None) or error}.", advice="Mend that line."
        ) from None
    except RecursionError:
        raise ConfigError("The YAML is nested too deeply.", advice="Settings are at most four levels deep.") from None
    if not isinstance(data, dict):
        raise ConfigError("The YAML holds no settings.", advice="Start with keys such as `students:` and `domains:`.")
    return data


def parse_change(text: str) -> dict[str, Any]:
    """A setting written as `dotted.path=value`, the value as in YAML, to nested data that `merge` takes.

    Raises:
        ConfigError: it is not of that form.
    """
    path, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", path):
        raise ConfigError(f"{text!r} changes no setting.", advice="Write for example `schedule.rounds=5`; lists are changed in the file.")
    change: Any = parse_yaml(f"value: {value}")["value"]
    for key in reversed(path.split(".")):
        change = {key: change}
    return dict(change)


PRESET_FOLDER = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """Names of the built-in presets."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """Plain data of a preset; one that `extends` another holds only what differs.

    Raises:
        ConfigError: no preset has this name.
    """
    if name not in preset_names():
        raise ConfigError(f"There is no preset {name!r}.", advice=f"Choose one of {', '.join(preset_names())}.", field="preset")
    return deepcopy(_preset(name))


@cache
def _preset(name: str) -> dict[str, Any]:
    """Read once: the files come with the package, and YAML is slow to parse."""
    data: dict[str, Any] = parse_yaml((PRESET_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    base = data.pop("extends", None)
    return data if base is None else merge(_preset(base), data)


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def differences(a: ExperimentConfig, b: ExperimentConfig) -> list[tuple[str, Any, Any]]:
    """(dotted path, value in a, value in b) wherever two configurations differ."""
    left, right = (dict(leaves(config.model_dump(mode="json"))) for config in (a, b))
    return [(path, left.get(path), right.get(path)) for path in sorted(left | right) if left.get(path) != right.get(path)]


def leaves(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted path, value) of everything in plain data that has no parts; places in lists are numbers."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in items:
            yield from leaves(below, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
