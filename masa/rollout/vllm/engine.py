"""Rollouts with vLLM in this process: one engine per process, or one that is tensor-parallel over several."""

from __future__ import annotations

import gc
import importlib.util
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from masa.config import ConfigError
from masa.errors import brief
from masa.model.lora import adapter_settings, has_adapters
from masa.model.weights import Weights, has_transposed_matrices, named_tensors, parameter_shapes, policy_weights
from masa.rollout.engine import Ended, Rollout, RolloutError, RolloutRequest, RolloutStream
from masa.rollout.statistics import EngineStatistics
from masa.rollout.stop_texts import StopTexts
from masa.rollout.stream import RoundStream, generate
from masa.rollout.vllm.adapters import take_adapter, vllm_checksum
from masa.rollout.vllm.arguments import executor, vllm_arguments
from masa.rollout.vllm.experts import forget_packed_experts, has_packed_experts
from masa.rollout.vllm.linears import pack_linears
from masa.rollout.vllm.process import ParameterCopy, build_engine, copied_parameters
from masa.rollout.vllm.process_state import preserved_random_states, process_group_kept
from masa.rollout.vllm.sampling import Sampling, VllmBatch, drop_prefixes, require_lengths
from masa.rollout.vllm.stream import Engine, VllmStream
from masa.rollout.vllm.together import anybody_waits, sampled_together
from masa.rollout.weights.adapters import AdapterError, adapter_arguments, copied_adapters, vllm_takes_adapters
from masa.rollout.weights.saved_weights import SavedWeights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from masa.config.schema import RolloutSection

_GIGABYTE = 2**30
# What vLLM calls the two parts of its memory that sleep.
_WEIGHTS, _CACHE = "weights", "kv_cache"


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
            "Install masa-rl[vllm] on a machine with a GPU, masa-rl[cpu] without"
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
        stop_texts: texts that end a response as well.

    Raises:
        ConfigError: vLLM is not installed, or cannot do here what the section asks for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        section: RolloutSection,
        *,
        stop_ids: Sequence[int],
        max_model_len: int,
        stop_texts: StopTexts | None = None,
    ) -> None:
        if not stop_ids:
            raise ValueError("the engine needs at least one token id that ends a response")
        require_vllm(section)
        self.weight_version = 0
        self.max_model_len = max_model_len
        self._section = section
        self._stop_ids = sorted(set(stop_ids))
        self._stop_texts = stop_texts
        self._as_saved = SavedWeights(model)
        self._policy_classes = {type(module) for module in model.modules()}
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

    def generate(self, requests: Sequence[RolloutRequest], ended: Ended | None = None) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

        Tensor-parallel processes must call it together; each gets the samples of its own requests.

        Raises:
            RolloutError: a request is too long, the engine has no weights, or it failed twice.
        """
        return generate(self.stream(), requests, ended)

    def stream(self) -> RolloutStream:
        """A stream that samples inside of its `take`; tensor-parallel processes sample in rounds, all together.

        Raises:
            RolloutError: the engine has no weights.
        """
        self._require_weights()
        if self._section.tensor_parallel_size > 1:
            return RoundStream(partial(sampled_together, sample=self._generate_in_use), anybody_waits)
        parts = Engine(
            begin=self._begin,
            rebuild=self._rebuild,
            lost=self._lose_weights,
            require=self._check,
            undisturbed=self._undisturbed,
            in_use=self._in_use,
            closing=self._closing,
        )
        return VllmStream(parts, self._statistics)

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
        if not drop_prefixes(self._engine):
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
                f"({brief(error)}); allowed for it: transformers"
            ) from error
        if self._on_cpu:
            self._engine.apply_model(pack_linears)
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
        return build_engine(self._arguments, self._statistics, on_cpu=self._on_cpu, policy_classes=self._policy_classes)

    def _check(self, requests: Sequence[RolloutRequest]) -> None:
        self._require_weights()
        require_lengths(requests, self.max_model_len)

    def _require_weights(self) -> None:
        if not self._has_weights:
            raise RolloutError("the vLLM engine has not been given the policy's weights: call update_weights first")

    def _lose_weights(self) -> None:
        self._has_weights = False

    def _generate_in_use(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        with self._in_use:
            return self._generate(requests)

    def _generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Samples of each request; a failure of the engine is not mended."""
        self._check(requests)
        started = time.perf_counter()
        batch = self._begin()
        rollouts: list[list[Rollout]] = [[] for _ in requests]
        coming = requests
        with self._undisturbed():
            while ended := batch.advance(coming):
                coming = ()
                for one in ended:
                    rollouts[one.number].append(one.rollout)
        for group in rollouts:
            group.sort(key=lambda one: one.index)
        self._statistics.sampled(rollouts, time.perf_counter() - started)
        return rollouts

    def _begin(self) -> VllmBatch:
        """An empty batch, whose results depend on its requests alone, so that a resumed run repeats them."""
        self.wake()
        drop_prefixes(self._engine)
        adapter = self._adapter[0] if self._adapter else None
        sampling = Sampling(self._stop_ids, adapter, self.weight_version, self._closing, self._stop_texts)
        return VllmBatch(self._engine, sampling)

    def _rebuild(self) -> None:
        """A new engine with the old one's weights, which are those that this batch is to be sampled with."""
        kept = self._engine.apply_model(copied_parameters)[0]
        self._shut_down()
        self._engine = self._build()
        self._engine.apply_model(ParameterCopy(kept))
        if self._on_cpu:
            self._engine.apply_model(pack_linears)
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

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Within it vLLM samples and leaves the process as it is."""
        # On a CPU vLLM would call a C++ compiler for two small functions of its sampler.
        eager: AbstractContextManager[Any] = nullcontext()
        if self._on_cpu:
            eager = torch.compiler.set_stance("force_eager")
        with preserved_random_states(), eager:
            yield

    def _note_memory(self, moment: str) -> None:
        free, total = torch.cuda.mem_get_info()
        self._statistics.memory(moment, (total - free) / _GIGABYTE)
