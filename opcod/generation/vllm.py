"""Sampling by vLLM on the GPU that trains, from the weights that are trained there.

vLLM's engine is awake only while it samples. Waking, it takes the model's weights as they are at that moment over its weight
transfer (CUDA IPC, for two processes on one GPU), so that nothing old is left to sample from; asleep it holds neither
weights nor keys and values, and its memory is the training's. Models of one architecture take turns in one engine.

Written for one release line: these calls have changed from release to release. Sources: vLLM's documentation of `LLM`,
`SamplingParams`, sleep mode (level 2, for weights that change) and weight transfer (`ipc`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcod.config import ExperimentConfig
from opcod.errors import ConfigError, ModelError, ResourceError
from opcod.generation.base import Generation, SamplingParams
from opcod.students.chat import end_token_ids
from opcod.students.loading import Student
from opcod.students.lora import bare_weights
from opcod.students.references import locate

RELEASE = "0.30"
SEEDS = 2**31
LEAST_BUFFER_BYTES = 256 * 2**20
"""Weights cross in a buffer of this size, or of the largest one's."""
ENGINE, FRACTION = "compute.engine", "compute.vllm_memory_fraction"


@dataclass(frozen=True, slots=True)
class Start:
    """What an engine is started with, but for the weights: models alike in all of it can share one."""

    architecture: str
    dtype: str
    device: int
    memory_fraction: float
    longest: int
    """Tokens of a prompt with its response."""
    sequences: int
    """Responses under way at once."""


class SleepingLlm:
    """A vLLM engine without weights of its own, awake for one model at a time."""

    def __init__(self, start: Start, ref: str) -> None:
        from vllm import LLM
        from vllm.config import WeightTransferConfig

        # The handles of the weights go pickled to vLLM's process, which is a child of this one.
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        try:
            self.llm = LLM(
                model=locate(ref),
                dtype=start.dtype,
                load_format="dummy",
                device_ids=[start.device],
                gpu_memory_utilization=start.memory_fraction,
                max_model_len=start.longest,
                max_num_seqs=start.sequences,
                logprobs_mode="processed_logprobs",
                enable_sleep_mode=True,
                weight_transfer_config=WeightTransferConfig(backend="ipc"),
            )
        except (RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()
            raise ResourceError(
                f"vLLM could not start for {ref!r}: {said[0] if said else type(error).__name__}",
                advice=f"The log says more. Where memory is short, lower {FRACTION}, or set {ENGINE} to transformers.",
                field=ENGINE,
            ) from error
        self._sleep()

    @contextmanager
    def awake(self, transfer: Any) -> Iterator[Any]:
        """The `LLM`, with the weights that `transfer` sends; the memory for keys and values is taken after they have come."""
        torch.cuda.empty_cache()  # what torch keeps for later would be missing
        self.llm.wake_up(tags=["weights"])
        try:
            transfer.send_weights()
            self.llm.wake_up(tags=["kv_cache"])
            yield self.llm
        finally:
            self._sleep()

    def _sleep(self) -> None:
        """Forget weights, keys and values, prefixes known from earlier prompts included."""
        self.llm.sleep(level=2)

    # What vLLM's trainer side asks of whoever carries its messages (`VLLMWeightSyncClient`).

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self.llm.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.llm.finish_weight_update(weight_version)


_started: WeakValueDictionary[Start, SleepingLlm] = WeakValueDictionary()
"""This process's engines; one ends with the last model that samples by it."""


class VllmEngine:
    """Samples from `model`; any token of `end_ids` ends a turn, and no other does. `ref` says where its config.json is.

    vLLM starts with the first prompts. Adapters are merged into the weights that are sent. Equal seeds give equal responses as
    far as vLLM's kernels do not depend on what else is in the batch.

    Raises:
        ConfigError: vLLM is not installed, or another release of it.
        ModelError: the model's weights have other names or shapes here than in their files, where vLLM knows them from.
        ResourceError: there is no CUDA GPU.
    """

    def __init__(
        self, model: PreTrainedModel, ref: str, *, end_ids: Sequence[int], memory_fraction: float, longest: int, sequences: int
    ) -> None:
        _check_installed()
        _check_names(model, ref)
        self.model, self.ref, self.end_ids = model, ref, tuple(end_ids)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest
        self.start = Start(
            architecture=model.config.to_json_string(),
            dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
            device=model.device.index or 0,
            memory_fraction=memory_fraction,
            longest=min(longest, positions),
            sequences=sequences,
        )
        self._opened: tuple[SleepingLlm, Any] | None = None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seed: int,
        batch_size: int,
        share: Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """See `opcod.generation.base.Engine`; the memory for `sequences` is set aside, so that `batch_size` bounds nothing.

        vLLM tells log-probabilities after the nucleus: they are empty where there is one.

        Raises:
            ResourceError: vLLM could not start.
        """
        places = range(len(prompts)) if share is None else share
        if not places:
            return []
        from vllm import TokensPrompt

        sleeping, transfer = self._open()
        asked = [TokensPrompt(prompt_token_ids=list(prompts[place])) for place in places]
        # vLLM adds a response's number among the n to its prompt's seed.
        how = [self._sampling(params, (seed + place * params.n) % SEEDS) for place in places]
        with sleeping.awake(transfer) as llm:
            answers = llm.generate(asked, how, use_tqdm=False)
        return [[_generation(one) for one in answer.outputs] for answer in answers]

    def _open(self) -> tuple[SleepingLlm, Any]:
        if self._opened is None:
            sleeping = _started.get(self.start) or SleepingLlm(self.start, self.ref)
            _started[self.start] = sleeping
            self._opened = sleeping, _transfer(self.model, sleeping)
        return self._opened

    def _sampling(self, params: SamplingParams, seed: int) -> Any:
        import vllm

        nucleus = params.top_p < 1 and params.temperature > 0
        return vllm.SamplingParams(
            n=params.n,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=seed,
            max_tokens=params.max_new_tokens,
            stop_token_ids=list(self.end_ids),
            ignore_eos=True,  # the ends are all named
            logprobs=None if nucleus else 0,  # 0: of the sampled token alone
            detokenize=False,
        )


def open_engine(student: Student, config: ExperimentConfig) -> VllmEngine:
    """The engine of a student or tutor of an experiment, with room for the longest of its sequences. See `VllmEngine`."""
    generation, feedback = config.generation, config.method.feedback
    asked = max(generation.max_prompt_tokens, config.method.teacher.max_tokens)  # again with feedback, for the break rate
    return VllmEngine(
        student.model,
        student.ref,
        end_ids=end_token_ids(student.model, student.tokenizer),
        memory_fraction=config.compute.vllm_memory_fraction,
        longest=max(asked + generation.max_response_tokens, feedback.max_prompt_tokens + feedback.max_tokens),
        sequences=max(generation.batch_size, feedback.batch_size),
    )


def _generation(one: Any) -> Generation:
    log_probs = () if one.logprobs is None else [told[token].logprob for token, told in zip(one.token_ids, one.logprobs, strict=True)]
    return Generation(tuple(one.token_ids), tuple(log_probs), one.finish_reason == "stop")


def _transfer(model: PreTrainedModel, sleeping: SleepingLlm) -> Any:
    """The sending side of vLLM's weight transfer, for `model`."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource, WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    class Weights(WeightSource):  # type: ignore[misc]
        def metadata(self) -> list[Any]:
            return [ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in bare_weights(model)]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return bare_weights(model)

    largest = max(weight.nbytes for weight in model.parameters())
    how = IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=max(LEAST_BUFFER_BYTES, largest))
    return WeightTransferTrainerFactory.trainer_init(init_info=how, client=sleeping, source=Weights())


def _check_installed() -> None:
    install = "Install it with `pip install 'opcod-studio[vllm]'`, or set compute.engine to transformers."
    try:
        found = version("vllm")
    except PackageNotFoundError:
        raise ConfigError("vLLM is not installed.", advice=install, field=ENGINE) from None
    if not found.startswith(f"{RELEASE}."):
        raise ConfigError(f"vLLM {found} is installed; this version of OPCoD Studio works with {RELEASE}.", advice=install, field=ENGINE)
    from vllm.platforms import current_platform

    if not current_platform.is_cuda():
        raise ResourceError("vLLM samples on a CUDA GPU, and finds none.", advice="Set compute.engine to transformers.", field=ENGINE)


def _check_names(model: PreTrainedModel, ref: str) -> None:
    """Weights are known to vLLM by the names in their files; transformers joins or renames those of some families while loading."""
    if getattr(model, "_weight_conversions", None):
        raise ModelError(
            f"The weights of {ref!r} are arranged otherwise in transformers than in their files, and cannot be sent to vLLM.",
            advice=f"Set {ENGINE} to transformers.",
            field=ENGINE,
        )
