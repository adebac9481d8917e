"""What stands in for vLLM 0.30, as its documentation and signatures have it: the calls that are used here, with all that they refuse.

The engine runs a real model of transformers, made with random weights from the configuration that it is started with. It takes no
argument that the release does not have, answers to no call while it sleeps, forgets what it must while asleep, remembers beginnings
of prompts while awake, and has no weights but those that came by a whole weight transfer.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, TypedDict

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

_NAMES = (
    "runner convert tokenizer tokenizer_mode skip_tokenizer_init trust_remote_code tensor_parallel_size dtype quantization revision "
    "tokenizer_revision chat_template seed gpu_memory_utilization cpu_offload_gb enforce_eager hf_overrides kv_cache_memory_bytes "
    "compilation_config logits_processors "
    # of `EngineArgs`, which `LLM` takes besides
    "load_format max_model_len max_num_seqs max_num_batched_tokens enable_prefix_caching logprobs_mode max_logprobs generation_config "
    "enable_sleep_mode weight_transfer_config device_ids distributed_executor_backend model_impl disable_log_stats async_scheduling "
    "worker_extension_cls"
)
PARAMETERS = frozenset(_NAMES.split())
"""Some of those that `LLM` takes."""
MISSING = float("nan")


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.top_p <= 1 and self.temperature >= 0 and self.n >= 1 and self.max_tokens):
            raise ValueError(f"out of range: {self}")
        if self.temperature < 1e-5:
            self.top_p, self.top_k, self.min_p = 1.0, 0, 0.0


class TokensPrompt(TypedDict):
    prompt_token_ids: list[int]


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]


@dataclass
class WeightTransferConfig:
    backend: str = "nccl"


class LLM:
    """One engine. `started` are those of the test, oldest first."""

    started: ClassVar[list[LLM]] = []
    fault: ClassVar[Exception | None] = None
    """Raised where the next one starts."""

    def __init__(self, model: str, **arguments: Any) -> None:
        if unknown := set(arguments) - PARAMETERS:
            raise TypeError(f"EngineArgs.__init__() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        if LLM.fault:
            raise LLM.fault
        if os.environ.get("VLLM_ALLOW_INSECURE_SERIALIZATION") != "1":
            raise TypeError("handles of memory cannot be serialised")
        config = AutoConfig.from_pretrained(model)
        self.arguments: dict[str, Any] = {"dtype": "auto", "load_format": "auto", "logprobs_mode": "raw_logprobs", **arguments}
        self.longest = self.arguments.get("max_model_len") or config.max_position_embeddings
        if self.longest > config.max_position_embeddings:
            raise ValueError("User-specified max_model_len is greater than the derived max_model_len")
        if not 0 < self.arguments.get("gpu_memory_utilization", 0.9) <= 1:
            raise ValueError("gpu_memory_utilization")
        build: Any = AutoModelForCausalLM.from_config
        self.model: Any = build(config, dtype=getattr(torch, self.arguments["dtype"])).eval().requires_grad_(False)
        self.awake = {"weights", "kv_cache"}
        self.beginnings: dict[tuple[int, ...], Tensor] = {}
        self.arrived: set[str] | None = None
        self.packed: bool | None = None
        LLM.started.append(self)

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        if not self.arguments.get("enable_sleep_mode"):
            raise ValueError("Sleep mode is not enabled")
        assert level == 2, "levels 0 and 1 are not stood in for"
        self.awake.clear()
        self.beginnings.clear()
        for weight in self.model.parameters():
            weight.fill_(MISSING)

    def wake_up(self, tags: list[str] | None = None) -> None:
        asked = {"weights", "kv_cache"} if tags is None else set(tags)
        assert asked <= {"weights", "kv_cache", "scheduling"}
        self.awake |= asked

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        self.beginnings.clear()
        return True

    def init_weight_transfer_engine(self, request: dict[str, Any]) -> None:
        if self.arguments.get("weight_transfer_config") != WeightTransferConfig("ipc"):
            raise RuntimeError("Please set weight_transfer_config to enable weight transfer.")
        self.packed = _only(request["init_info"], "packed")["packed"]

    def start_weight_update(self) -> None:
        if self.arrived is not None:
            raise RuntimeError("start_weight_update called while a weight update is already active.")
        self.arrived = set()

    def update_weights(self, request: dict[str, Any]) -> None:
        if self.arrived is None:
            raise RuntimeError("start_weight_update must be called before update_weights.")
        assert "weights" in self.awake, "memory that is not there"
        told = _only(request["update_info"], "names", "dtype_names", "shapes", "ipc_handles", "ipc_handles_pickled", "tensor_sizes")
        assert self.packed
        weights, start = dict(self.model.named_parameters()), 0
        for name, dtype, shape, size in zip(told["names"], told["dtype_names"], told["shapes"], told["tensor_sizes"], strict=True):
            arrived = told["ipc_handles"]["gpu"][start : start + size].view(getattr(torch, dtype)).view(shape)
            weights[name].copy_(arrived)
            self.arrived.add(name)
            start += size

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        if self.arrived is None:
            raise RuntimeError("finish_weight_update called without a matching start_weight_update.")
        self.arrived = None

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[TokensPrompt], sampling_params: Any = None, *, use_tqdm: bool = True, lora_request: None = None
    ) -> list[RequestOutput]:
        assert self.awake >= {"weights", "kv_cache"}, "asleep"
        each = sampling_params if isinstance(sampling_params, Sequence) else [sampling_params] * len(prompts)
        if len(each) != len(prompts):
            raise ValueError("The lengths of prompts and params must be the same.")
        return [
            RequestOutput(ids, [self._complete(ids, index, how) for index in range(how.n)])
            for ids, how in ((prompt["prompt_token_ids"], how) for prompt, how in zip(prompts, each, strict=True))
        ]

    def _complete(self, prompt: list[int], index: int, how: SamplingParams) -> CompletionOutput:
        if len(prompt) >= self.longest:
            raise ValueError("The decoder prompt is longer than the maximum model length")
        random = torch.Generator()
        random.manual_seed(how.seed + index) if how.seed is not None else random.seed()
        ids, told, reason = list(prompt), [], None
        eos = self.model.config.eos_token_id
        while reason is None:
            key = tuple(ids)
            if key not in self.beginnings or key != tuple(prompt):
                self.beginnings[key] = self.model(torch.tensor([ids])).logits[0, -1].float()
            token, told_of = _sample(self.beginnings[key], how, random, self.arguments["logprobs_mode"])
            ids.append(token)
            told.append({token: Logprob(told_of)})
            if (token == eos and not how.ignore_eos) or token in (how.stop_token_ids or ()):
                reason = "stop"
            elif len(ids) >= self.longest or len(ids) - len(prompt) == how.max_tokens:
                reason = "length"
        return CompletionOutput(index, "", ids[len(prompt) :], None if how.logprobs is None else told, reason)


def _sample(logits: Tensor, how: SamplingParams, random: torch.Generator, mode: str) -> tuple[int, float]:
    """The next token, and its log-probability: raw of the model's logits, processed of what it was drawn from."""
    raw = torch.log_softmax(logits, dim=-1)
    if how.temperature < 1e-5:
        return int(logits.argmax()), float(raw.max())
    processed = torch.log_softmax(logits / how.temperature, dim=-1)
    ordered, places = processed.exp().sort(descending=True)
    outside = places[ordered.cumsum(0) - ordered >= how.top_p]
    processed = torch.log_softmax(processed.index_fill(0, outside[outside != places[0]], -torch.inf), dim=-1)
    token = int(torch.multinomial(processed.exp(), 1, generator=random))
    return token, float({"raw_logprobs": raw, "processed_logprobs": processed}[mode][token])


@dataclass(frozen=True)
class ParamMeta:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource(ABC):
    @abstractmethod
    def metadata(self) -> list[ParamMeta]: ...

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[str, Tensor]]: ...


@dataclass
class IPCTrainerInitInfo:
    packed: bool = False
    packed_buffer_size_bytes: int = 2**30
    rank: int = field(kw_only=True)


class WeightTransferTrainerFactory:
    @classmethod
    def trainer_init(cls, init_info: IPCTrainerInitInfo, *, client: Any, source: WeightSource) -> IPCTrainer:
        assert isinstance(source, WeightSource)
        assert init_info.rank == 0
        client.init_weight_transfer_engine({"packed": init_info.packed})
        return IPCTrainer(client, source, init_info)


@dataclass
class IPCTrainer:
    """The side that sends: one buffer, filled and sent as often as it takes."""

    client: Any
    source: WeightSource
    how: IPCTrainerInitInfo

    def send_weights(self) -> None:
        assert [asdict(one) for one in self.source.metadata()] == [
            {"name": name, "dtype": weight.dtype, "shape": tuple(weight.shape)} for name, weight in self.source
        ]
        self.client.start_weight_update()
        chunk: list[tuple[str, Tensor]] = []
        for name, weight in self.source:
            if weight.nbytes > self.how.packed_buffer_size_bytes:
                raise ValueError(f"Tensor {name!r} exceeds buffer_size_bytes")
            if sum(other.nbytes for _, other in chunk) + weight.nbytes > self.how.packed_buffer_size_bytes:
                self._send(chunk)
                chunk = []
            chunk.append((name, weight.detach().clone()))
        self._send(chunk)
        self.client.finish_weight_update()

    def _send(self, chunk: list[tuple[str, Tensor]]) -> None:
        packed = [weight.contiguous().view(torch.uint8).view(-1) for _, weight in chunk]
        self.client.update_weights(
            {
                "names": [name for name, _ in chunk],
                "dtype_names": [str(weight.dtype).removeprefix("torch.") for _, weight in chunk],
                "shapes": [list(weight.shape) for _, weight in chunk],
                "tensor_sizes": [len(one) for one in packed],
                "ipc_handles": {"gpu": torch.cat(packed)},
            }
        )


def install(patch: pytest.MonkeyPatch, *, release: str = "0.30.0", cuda: bool = True) -> None:
    """Let `import vllm` find what is above."""
    LLM.started.clear()
    patch.setattr(LLM, "fault", None)
    patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "")
    patch.setattr("opcod.generation.vllm.version", lambda name: {"vllm": release}[name])
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": TokensPrompt},
        "vllm.config": {"WeightTransferConfig": WeightTransferConfig},
        "vllm.platforms": {"current_platform": SimpleNamespace(is_cuda=lambda: cuda)},
        "vllm.distributed": {},
        "vllm.distributed.weight_transfer": {
            "ParamMeta": ParamMeta,
            "WeightSource": WeightSource,
            "WeightTransferTrainerFactory": WeightTransferTrainerFactory,
        },
        "vllm.distributed.weight_transfer.ipc_engine": {"IPCTrainerInitInfo": IPCTrainerInitInfo},
    }
    for name, members in contents.items():
        module = ModuleType(name)
        vars(module).update(members)
        patch.setitem(sys.modules, name, module)


def _only(told: dict[str, Any], *names: str) -> dict[str, Any]:
    if unknown := set(told) - set(names):
        raise ValueError(f"Invalid info: unexpected {sorted(unknown)}")
    return told
