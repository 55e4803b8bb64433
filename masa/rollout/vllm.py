"""Rollouts with vLLM in this process: one engine per process, or one that is tensor-parallel over several."""

from __future__ import annotations

import gc
import importlib.util
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from masa.config import ConfigError
from masa.policy.lora import adapter_settings, has_adapters
from masa.rollout.adapters import AdapterError, adapter_arguments, copied_adapters, vllm_takes_adapters
from masa.rollout.engine import Rollout, RolloutError, RolloutRequest
from masa.rollout.process_state import preserved_process, preserved_random_states, process_group_kept
from masa.rollout.saved_weights import SavedWeights
from masa.rollout.statistics import EngineStatistics
from masa.rollout.vllm_adapters import adapter_request, take_adapter, vllm_checksum
from masa.rollout.vllm_arguments import executor, vllm_arguments
from masa.rollout.vllm_experts import forget_packed_experts, has_packed_experts
from masa.rollout.weights import Weights, has_transposed_matrices, named_tensors, parameter_shapes, policy_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from masa.config.schema import RolloutSection

# Read by vLLM while an engine is constructed. The engine shares the process, so that weights are handed over by
# reference and no child process can be left behind; its CPU threads stay where the run has put them.
_VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
_GIGABYTE = 2**30
# What vLLM calls the two parts of its memory that sleep.
_WEIGHTS, _CACHE = "weights", "kv_cache"
_LAST_STEPS = 4


def vllm_is_installed() -> bool:
    """Whether vLLM can be imported, found out without importing it."""
    return importlib.util.find_spec("vllm") is not None


def require_vllm(section: RolloutSection) -> None:
    """An engine that is vLLM's needs vLLM, in this process or for the servers that the run starts.

    Raises:
        ConfigError: it is not installed.
    """
    if not vllm_is_installed():
        raise ConfigError(
            f"rollout.engine: found {section.engine!r}, but vllm is not installed; allowed here: transformers. "
            "Install masa[vllm] on a machine with a GPU, masa[cpu] without"
        )


def require_wakeful(section: RolloutSection, *, on_gpu: bool) -> None:
    """Only memory of a GPU can be put to sleep.

    Raises:
        ConfigError: there is none, and the engine is to sleep.
    """
    if section.sleep_level and not on_gpu:
        raise ConfigError(f"rollout.sleep_level: found {section.sleep_level}, allowed without a GPU: 0")


class VllmEngine:
    """A `RolloutEngine` that samples with vLLM inside this process.

    Weights come from `update_weights` alone: the engine starts from the model's configuration and refuses to sample
    before it has been given the policy. A failure during sampling is answered by building the engine once more, with
    the weights that it had, and sampling the whole batch again; seeds make the result the same.

    Args:
        model: the policy, whose architecture and type the engine takes.
        section: the configuration of rollouts.
        stop_ids: token ids that end a response.
        max_model_len: longest prompt and response together, in tokens.

    Raises:
        ConfigError: vLLM is not installed, or cannot do here what the section asks for.
    """

    def __init__(
        self, model: PreTrainedModel, section: RolloutSection, *, stop_ids: Sequence[int], max_model_len: int
    ) -> None:
        if not stop_ids:
            raise ValueError("the engine needs at least one token id that ends a response")
        require_vllm(section)
        self.weight_version = 0
        self.max_model_len = max_model_len
        self._section = section
        self._stop_ids = sorted(set(stop_ids))
        self._as_saved = SavedWeights(model)
        self._transposes = has_transposed_matrices(parameter_shapes(model))
        self._statistics = EngineStatistics()
        self._folder = tempfile.TemporaryDirectory(prefix="masa-vllm-")
        self._on_cpu = not torch.cuda.is_available()
        require_wakeful(section, on_gpu=not self._on_cpu)
        self._arguments = {
            **vllm_arguments(model, section, max_model_len, Path(self._folder.name), self._on_cpu),
            "skip_tokenizer_init": True,
            "enable_sleep_mode": section.sleep_level > 0,
        }
        self._arguments["distributed_executor_backend"] = executor(section.tensor_parallel_size)
        self.takes_adapters = vllm_takes_adapters(section, model)
        if self.takes_adapters:
            self._arguments |= adapter_arguments(model)
        self._has_base = False
        self._adapter: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None
        self._adapters_taken = 0
        self._has_weights = False
        self._weight_names: frozenset[str] = frozenset()
        self._asleep: set[str] = set()
        self._closing = threading.Event()
        self._in_use = threading.RLock()
        self.weight_dtype: torch.dtype = getattr(torch, self._arguments["dtype"])
        # Where a process group exists already, vLLM joins it, and it is not vLLM's to take down.
        self._group_is_ours = not torch.distributed.is_initialized()
        self._engine: Any = None
        try:
            self._engine = self._build()
        except Exception as error:
            if not self.takes_adapters:
                raise
            # Which architectures have no adapters in vLLM shows when it loads them.
            self._take_no_adapters(error)

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

        Tensor-parallel processes must call it together; each gets the samples of its own requests.

        Raises:
            RolloutError: a request is too long, the engine has no weights, or it failed twice.
        """
        with self._in_use:
            self._check(requests)
            if self._section.tensor_parallel_size == 1:
                return self._generate_or_rebuild(requests)
            return self._generate_together(requests)

    def update_weights(self, weights: Weights, version: int) -> None:
        """Take the policy's parameters, one after the other, and forget everything cached under the old ones.

        Raises:
            ConfigError: vLLM cannot load the weights of this architecture.
            RolloutError: other parameters than in the first update; the engine then has no usable weights.
        """
        self._has_weights = False
        self._wake(_WEIGHTS)
        as_adapter = self.takes_adapters and isinstance(weights, torch.nn.Module) and has_adapters(weights)
        if as_adapter:
            try:
                self._update_adapter(weights)
            except AdapterError as error:
                self._take_no_adapters(error)
                as_adapter = False
        if not as_adapter:
            self._adapter, self._has_base = None, False
            self._reload(named_tensors(weights))
        self.wake()
        if not self._drop_prefixes():
            raise RolloutError("vLLM could not drop its prefix cache after a weight update: requests were running")
        if not self._on_cpu:
            # Another thread may sample next, on a stream of its own, which would not wait for this one's copies.
            torch.cuda.synchronize()
        self.weight_version = version
        self._has_weights = True

    @property
    def samples_with_adapter(self) -> bool:
        """Whether the weights in the engine are the base model's, and its adapters beside them."""
        return self._adapter is not None

    def sleep(self) -> None:
        """Level 1 moves the weights to the CPU and drops the KV cache; level 2 drops both until the next update."""
        if self._section.sleep_level == 0 or self._asleep:
            return
        self._note_memory("awake")
        self._engine.sleep(self._section.sleep_level)
        self._asleep = {_WEIGHTS, _CACHE}
        self._has_weights = self._section.sleep_level < 2
        self._note_memory("asleep")

    def wake(self) -> None:
        """Take the memory back."""
        self._wake(_WEIGHTS, _CACHE)

    def statistics(self) -> dict[str, float]:
        """Speed, time to first token, queues, KV usage, preemptions and prefix hits since the last call."""
        return self._statistics.reading()

    def checksums(self) -> list[int]:
        """The checksum of the weights in the engine; none where it holds a part of them (tensor parallelism) or
        keeps them in another order (mixtures of experts on a CPU, GPT-2's matrices)."""
        if self._section.tensor_parallel_size > 1 or self._transposes:
            return []
        if self._on_cpu and any(self._engine.apply_model(has_packed_experts)):
            return []
        return [int(value) for value in self._engine.apply_model(vllm_checksum)]

    def close(self) -> None:
        """Take the engine down and free its memory; what another thread is sampling is given up."""
        self._closing.set()
        with self._in_use:
            if self._engine is not None:
                self._shut_down()
                self._folder.cleanup()

    def _wake(self, *parts: str) -> None:
        # By name: some versions of vLLM map a part twice that is awake already when they are asked for everything.
        asleep = [part for part in parts if part in self._asleep]
        if asleep:
            # vLLM takes its memory from the driver, past torch's allocator, which would hold what the update has freed.
            torch.cuda.empty_cache()
            self._engine.wake_up(tags=asleep)
            self._asleep -= set(asleep)

    def _reload(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        names: set[str] = set()

        def noted() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in weights:
                names.add(name)
                yield name, tensor.detach()

        if self._on_cpu:
            self._engine.apply_model(forget_packed_experts)
        try:
            with preserved_random_states():
                self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": self._as_saved(noted())})
        except (KeyError, ValueError) as error:
            if self._weight_names:
                raise
            raise ConfigError(
                f"rollout.engine: found {self._section.engine!r}, but vLLM cannot load the weights of this model "
                f"({_brief(error)}); allowed for it: transformers"
            ) from error
        if self._weight_names and names != self._weight_names:
            different = sorted(names ^ self._weight_names)
            raise RolloutError(f"{len(different)} parameters differ from the first update, such as {different[0]!r}")
        self._weight_names = frozenset(names)

    def _update_adapter(self, model: Any) -> None:
        """Take the adapters, and the base model where the engine does not hold it."""
        if not self._has_base:
            self._reload(policy_weights(model, merged=False))
            self._has_base = True
        self._adapters_taken += 1
        self._adapter = (self._adapters_taken, copied_adapters(model, self.weight_dtype), adapter_settings(model))
        self._give_adapter()

    def _give_adapter(self) -> None:
        if self._adapter is not None:
            number, tensors, settings = self._adapter
            # vLLM scales what it is given in place.
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            self._engine.collective_rpc(take_adapter, args=(number, copies, settings))

    def _take_no_adapters(self, error: Exception) -> None:
        """Go on with merged weights, where that is allowed.

        Raises:
            ConfigError: ``rollout.lora`` asks for adapters.
        """
        if self._section.lora == "adapter":
            raise ConfigError(f"rollout.lora: found {self._section.lora}, allowed here: merged; {error}") from error
        warnings.warn(f"rollout.lora: the engine is given merged weights, as {error}", stacklevel=2)
        self.takes_adapters, self._adapter = False, None
        self._arguments = {name: value for name, value in self._arguments.items() if "lora" not in name}
        self._shut_down()
        self._engine = self._build()

    def _build(self) -> Any:
        with preserved_process(_VARIABLES):
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            if self._on_cpu:
                keep_weights_unpacked()
            statistics = self._statistics
            return LLMEngine.from_engine_args(
                EngineArgs(**self._arguments), stat_loggers=[lambda config, index: statistics]
            )

    def _check(self, requests: Sequence[RolloutRequest]) -> None:
        if not self._has_weights:
            raise RolloutError("the vLLM engine has not been given the policy's weights: call update_weights first")
        for request in requests:
            needed = len(request.prompt_ids) + request.max_new_tokens
            if needed > self.max_model_len:
                raise RolloutError(
                    f"problem {request.problem_id!r}: the {request.path} prompt has {len(request.prompt_ids)} tokens "
                    f"and may be answered with {request.max_new_tokens}, {needed} together; allowed is "
                    f"rollout.max_model_len, {self.max_model_len}"
                )

    def _generate_together(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Tensor-parallel processes all sample the requests of all, and keep what is their own."""
        from vllm.distributed.parallel_state import get_tp_group

        group = get_tp_group()
        shares: list[Any] = [None] * group.world_size
        torch.distributed.all_gather_object(shares, list(requests), group=group.cpu_group)
        rollouts = self._generate(request for share in shares for request in share)
        start = sum(len(share) for share in shares[: group.rank_in_group])
        return rollouts[start : start + len(requests)]

    def _generate_or_rebuild(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        try:
            return self._generate(requests)
        except Exception as error:
            if self._closing.is_set():
                raise
            first = _brief(error)
        # Not while the error is held: its traceback keeps the old engine's memory.
        try:
            self._rebuild()
            return self._generate(requests)
        except Exception as error:
            self._has_weights = False
            raise RolloutError(
                f"the vLLM engine failed ({first}), was built again, and failed again ({_brief(error)}); "
                "resume the run from its last checkpoint"
            ) from error

    def _generate(self, requests: Iterable[RolloutRequest]) -> list[list[Rollout]]:
        started = time.perf_counter()
        requests = list(requests)
        self.wake()
        # Results then depend on these requests alone, and a resumed run, whose cache is empty, repeats them exactly.
        self._drop_prefixes()
        samples = [(request, index) for request in requests for index in range(len(request.seeds))]
        finished: dict[int, Rollout] = {}
        with preserved_random_states(), self._eager():
            try:
                self._submit(requests)
                while self._engine.has_unfinished_requests():
                    if self._closing.is_set():
                        raise RolloutError("the engine was closed while it sampled")
                    for output in self._engine.step():
                        if output.finished:
                            number = int(output.request_id)
                            finished[number] = self._rollout(*samples[number], output, started)
            except BaseException:
                # What is left over would be waited for by the next call.
                self._abort_all()
                raise
        numbers = iter(range(len(samples)))
        rollouts = [[finished[next(numbers)] for _ in request.seeds] for request in requests]
        self._statistics.sampled(rollouts, time.perf_counter() - started)
        return rollouts

    def _submit(self, requests: Sequence[RolloutRequest]) -> None:
        """One vLLM request per sample, each with its own seed; those of a prompt share its cached prefix."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        number = 0
        adapter = {"lora_request": adapter_request(self._adapter[0])} if self._adapter else {}
        for request in requests:
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            for seed in request.seeds:
                parameters = SamplingParams(
                    temperature=request.sampling.temperature,
                    top_p=request.sampling.top_p,
                    top_k=request.sampling.top_k,
                    seed=seed,
                    max_tokens=request.max_new_tokens,
                    stop_token_ids=self._stop_ids,
                    ignore_eos=True,
                    logprobs=0,
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                self._engine.add_request(str(number), prompt, parameters, **adapter)
                number += 1

    def _drop_prefixes(self) -> bool:
        """Forget all cached prefixes; whether that could be done."""
        for _ in range(_LAST_STEPS):
            if self._engine.reset_prefix_cache():
                return True
            # An engine that schedules ahead may have a step left over of requests that have ended.
            self._engine.step()
        return False

    def _rollout(self, request: RolloutRequest, index: int, output: Any, started: float) -> Rollout:
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            raise RolloutError(f"problem {request.problem_id!r}: vLLM ended a sample as {completion.finish_reason!r}")
        token_ids = tuple(completion.token_ids)
        return Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=index,
            prompt_ids=request.prompt_ids,
            token_ids=token_ids,
            logprobs=tuple(float(at[token].logprob) for at, token in zip(completion.logprobs, token_ids, strict=True)),
            finish_reason=completion.finish_reason,
            weight_version=self.weight_version,
            seconds=time.perf_counter() - started,
        )

    def _abort_all(self) -> None:
        processor = self._engine.output_processor
        self._engine.abort_request([*processor.request_states, *processor.parent_requests], internal=True)

    def _rebuild(self) -> None:
        """A new engine with the old one's weights, which are those that this batch is to be sampled with."""
        kept = self._engine.apply_model(_copied_parameters)[0]
        self._shut_down()
        self._engine = self._build()
        self._engine.apply_model(_ParameterCopy(kept))
        self._give_adapter()
        self._engine.reset_prefix_cache()

    def _shut_down(self) -> None:
        engine, self._engine = self._engine, None
        with nullcontext() if self._group_is_ours else process_group_kept():
            if engine is not None:
                engine.engine_core.shutdown()
            del engine
            gc.collect()
        if self._group_is_ours:
            from vllm.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel

            destroy_model_parallel()
            destroy_distributed_environment()
        if not self._on_cpu:
            torch.cuda.empty_cache()

    def _eager(self) -> AbstractContextManager[Any]:
        # On a CPU vLLM would call a C++ compiler for two small functions of its sampler.
        return torch.compiler.set_stance("force_eager") if self._on_cpu else nullcontext()

    def _note_memory(self, moment: str) -> None:
        free, total = torch.cuda.mem_get_info()
        self._statistics.memory(moment, (total - free) / _GIGABYTE)


def keep_weights_unpacked() -> None:
    """Let vLLM's CPU build compute with the weights themselves: packed copies would not follow an update."""
    from vllm import _custom_ops

    _custom_ops._supports_onednn = False


class _ParameterCopy:
    """Copies parameters into a model; a class, because vLLM wants one callable of the model alone."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self._values = values

    def __call__(self, model: torch.nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self._values[name])


def _copied_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in model.named_parameters()}


def _brief(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
