"""The tables of a dry run that say what a run needs: launch, memory of each process by part, room for sequences."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from masa.config import Config, ConfigError
from masa.planning.activations import MicroBatch, pass_memory
from masa.planning.engine_memory import (
    ENGINE_OVERHEAD,
    OVERHEAD,
    EngineMemory,
    engine_memory,
    slowdown,
    transformers_cache,
)
from masa.planning.known_models import known_config
from masa.planning.launch import Launch, sharding_of
from masa.planning.shapes import DecoderShape, shape_of
from masa.planning.training_state import Sharding, training_state
from masa.rollout.factory import choose_engine, require_divided_processes
from masa.software import missing_software, require_software

GPU_MEMORY = {"a100-40gb": 40, "a100": 80, "h100": 80, "h200": 141, "b200": 180, "l40s": 48, "l4": 24}
"""GB of GPUs by name, from their makers' data sheets."""
# Below so much more time a small cache is not worth a word.
_STARVED = 1.2


@dataclass(frozen=True)
class Device:
    """What a process computes on; ``memory`` in bytes is None for a CPU."""

    name: str
    memory: int | None

    @property
    def kind(self) -> str:
        return "cpu" if self.memory is None else "cuda"


def find_device(described: str | None) -> Device:
    """The device here, or a GPU that is not here: a name in `GPU_MEMORY`, or its memory in GB.

    Raises:
        ConfigError: neither.
    """
    if described is None:
        import torch

        if not torch.cuda.is_available():
            return Device("CPU, found here", None)
        found = torch.cuda.get_device_properties(0)
        return Device(f"{found.name}, found here", int(found.total_memory))
    try:
        memory = float(GPU_MEMORY.get(described.lower(), described.lower().removesuffix("gb")))
    except ValueError:
        memory = 0.0
    if not 0 < memory < 10_000:
        raise ConfigError(
            f"--gpu: found {described!r}, allowed: {', '.join(GPU_MEMORY)}, or the GB of a GPU, such as 80"
        )
    return Device(f"GPU of {memory:g} GB, not here", int(memory * 10**9))


def require_launch(config: Config, launch: Launch, device: Device, *, elsewhere: bool) -> list[str]:
    """What of the launch the run would refuse; of a machine ``elsewhere`` returns what is not installed here.

    Raises:
        ConfigError: as the run would.
    """
    from accelerate.utils import patch_environment

    on_gpu = device.memory is not None
    given = {name: value for name, value in launch.environment.items() if name.startswith("ACCELERATE_")}
    missing: list[str] = []
    with patch_environment(**given):
        if elsewhere:
            missing = missing_software(config)
        else:
            require_software(config, on_gpu=on_gpu)
    sharding_of(launch, config)
    require_divided_processes(config.rollout, launch.processes, on_gpu=on_gpu, with_vllm=elsewhere or None)
    return missing


def read_shape(config: Config, model_config: Any, notes: list[str]) -> DecoderShape | None:
    """The policy's shape from its configuration, adapters included; None where it is not known here."""
    if model_config is None:
        model_config = known_config(config.model.path)
        if model_config is None:
            notes.append("model.path: the model's configuration cannot be read from here, so memory is not planned")
            return None
        notes.append(f"model.path: stand-in: public numbers of {config.model.path} in place of its config.json")
    import torch
    from transformers import AutoModelForCausalLM

    from masa.policy.loading import prepare_policy

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(model_config), dtype=getattr(torch, config.model.dtype))
        model = prepare_policy(model, config.model)
    try:
        return shape_of(model)
    except AttributeError as error:
        notes.append(f"model.path: memory is not planned for a {type(model).__name__} ({error})")
        return None


def show_needs(
    config: Config, shape: DecoderShape, launch: Launch, device: Device, longest: int, console: Console
) -> None:
    """Print the launch and the memory of one process; formulas are in the modules of this room.

    Raises:
        ConfigError: the run would refuse the launch.
    """
    sharding = sharding_of(launch, config)
    engine = choose_engine(config.rollout, on_gpu=device.memory is not None)
    rows = {
        "device": device.name,
        "launch": launch.source,
        "processes": f"{launch.processes} on {launch.machines} machine{'s' if launch.machines > 1 else ''}",
        "update": _update(sharding),
        "engine": engine,
        "parameters": f"{shape.parameters:,}, {shape.trained:,} trained",
    }
    table = Table(title="Machine and launch", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    _show_memory(config, shape, sharding, device, longest, console)


def _show_memory(
    config: Config, shape: DecoderShape, sharding: Sharding, device: Device, longest: int, console: Console
) -> None:
    dtype, rollout = config.model.dtype, config.rollout
    state = training_state(shape, dtype, sharding, on_gpu=device.memory is not None)
    response = max(rollout.max_solution_tokens, rollout.max_meta_tokens if config.algorithm.meta else 0)
    row = longest + response - 1
    rows = max(1, config.optimizer.micro_batch_tokens // row)
    batch = MicroBatch(rows * row, rows * response)
    passes = {
        checkpointing: pass_memory(
            shape, batch, dtype=dtype, checkpointing=checkpointing, autocast=sharding.autocast, device=device.kind
        )
        for checkpointing in (False, True)
    }
    chosen = passes[config.model.gradient_checkpointing]
    copies = shape.parameters * (2 if dtype == "bfloat16" else 4) if config.algorithm.kl_coefficient else 0
    table = Table(title="Memory of one process, GB, by arithmetic")
    for heading in ("part", "GB"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    parts = {
        "weights": state.weights,
        "gradients": state.gradients,
        "float32 copies": state.float32_copies,
        "optimiser's moments": state.moments,
        "communication and gathered weights": state.buffers,
        "reference model": copies,
        f"logits and log-probs of {batch.counted:,} tokens": chosen.head,
        f"peak of activations of {batch.tokens:,} tokens": passes[False].peak,
        "the same with gradient checkpointing": passes[True].peak,
        "peak of an update as configured": state.peak(chosen.peak, micro_batches=2) + copies,
        "on the host, offloaded": state.on_host,
        "on the host, limit of its verifier workers": config.rewards.verifier_workers
        * config.rewards.verifier_memory_mb
        * 2**20,
    }
    if choose_engine(rollout, on_gpu=device.memory is not None) == "transformers":
        sampled = config.algorithm.num_problems * config.algorithm.num_solutions
        at_once = min(rollout.max_batch_size, -(-sampled // sharding.processes))
        cache = transformers_cache(shape, dtype, sequences=at_once, length=longest + response)
        parts[f"KV cache of {at_once:,} sequences, transformers engine"] = cache
    for name, value in parts.items():
        table.add_row(name, f"{value / 1e9:.2f}")
    console.print(table)
    on_gpu = choose_engine(rollout, on_gpu=device.memory is not None, with_vllm=True)
    if device.memory is not None and on_gpu == "vllm":
        training = state.between_updates + copies
        engine = engine_memory(shape, rollout, dtype, gpu=device.memory, training=training)
        _show_cache(config, engine, device.memory, training, longest, response, console)


def _show_cache(
    config: Config, engine: EngineMemory, gpu: int, training: int, longest: int, response: int, console: Console
) -> None:
    running = config.rollout.max_batch_size
    full, half = longest + response, longest + response // 2
    roomy = int(gpu * engine.fitting_share) - engine.weights - ENGINE_OVERHEAD
    slower = slowdown(engine, roomy, half, running=running)
    table = Table(title="vLLM beside training, by arithmetic", show_header=False)
    table.add_row("engine's weights, GB", f"{engine.weights / 1e9:.2f}")
    table.add_row("KV cache, GB", f"{max(0, engine.cache) / 1e9:.2f}")
    table.add_row(f"sequences of {full:,} tokens at once", f"{engine.at_once(full):,}")
    table.add_row("half grown, as they are on average", f"{engine.at_once(half):,} of at most {running:,}")
    table.add_row("training between updates, GB", f"{training / 1e9:.2f}")
    table.add_row("largest gpu_memory_utilization that fits", f"{int(engine.fitting_share * 20) / 20:.2f}")
    console.print(table)
    share = config.rollout.gpu_memory_utilization
    if config.rollout.kv_cache_gb is None and share > engine.fitting_share:
        console.print(
            f"rollout.gpu_memory_utilization: {share} does not fit beside training's {training / 1e9:.1f} GB and "
            f"{OVERHEAD / 1e9:.0f} GB of the libraries; at most {engine.fitting_share:.2f} does"
        )
    elif slower > _STARVED:
        console.print(
            f"rollout.gpu_memory_utilization: {share} starves the engine: generation takes {slower:.1f} times as long "
            f"as with sleep_level 2 and {int(engine.fitting_share * 20) / 20:.2f}"
        )


def _update(sharding: Sharding) -> str:
    if sharding.stage:
        offloaded = ", optimiser on the host" if sharding.offload_optimizer else ""
        return f"DeepSpeed ZeRO {sharding.stage}{offloaded}"
    return "one process" if sharding.processes == 1 else "DDP, a whole copy in each process"
