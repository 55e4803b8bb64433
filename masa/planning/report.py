"""The tables of a dry run that say what a run needs: launch, memory of each process by part, room for sequences."""

from __future__ import annotations

import copy
from typing import Any

from rich.console import Console
from rich.table import Table

from masa.config import Config
from masa.planning.activations import MicroBatch, PassMemory, pass_memory
from masa.planning.devices import Device
from masa.planning.engine_memory import (
    ENGINE_OVERHEAD,
    OVERHEAD,
    EngineMemory,
    engine_memory,
    slowdown,
    transformers_cache,
)
from masa.planning.host_memory import HostMemory, host_memory, memory_here
from masa.planning.known_models import known_config
from masa.planning.launch import Launch, sharding_of
from masa.planning.shapes import BYTES, DecoderShape, shape_of
from masa.planning.training_state import Sharding, training_state
from masa.policy.objective.algorithm import resolve_algorithm
from masa.preflight import plan_step
from masa.rollout.factory import choose_engine, require_divided_processes
from masa.software import missing_software, require_software

# Below so much more time a small cache is not worth a word.
_STARVED = 1.2


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

    from masa.model.loading import prepare_policy

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
    _show_host(config, shape, launch, device, longest, console)


def _show_memory(
    config: Config, shape: DecoderShape, sharding: Sharding, device: Device, longest: int, console: Console
) -> None:
    dtype, rollout = config.model.dtype, config.rollout
    state = training_state(shape, dtype, sharding, on_gpu=device.memory is not None)
    response = _longest_response(config)
    batch, passes = _passes(config, shape, sharding, device, longest)
    chosen = passes[config.model.gradient_checkpointing]
    copies = _reference_bytes(config, shape)
    table = Table(title="Memory of one process, GB, by arithmetic")
    for heading in ("part", "GB"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    parts = {
        "weights, while they are loaded": shape.parameters * BYTES[dtype],
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
    }
    if choose_engine(rollout, on_gpu=device.memory is not None) == "transformers":
        at_once, cache = _transformers_cache(config, shape, sharding, longest)
        parts[f"KV cache of {at_once:,} sequences, transformers engine"] = cache
    for name, value in parts.items():
        table.add_row(name, f"{value / 1e9:.2f}")
    console.print(table)
    on_gpu = choose_engine(rollout, on_gpu=device.memory is not None, with_vllm=True)
    if device.memory is not None and on_gpu == "vllm":
        training = state.between_updates + copies
        engine = engine_memory(shape, rollout, dtype, gpu=device.memory, training=training)
        _show_cache(config, engine, device.memory, training, longest, response, console)


def _passes(
    config: Config, shape: DecoderShape, sharding: Sharding, device: Device, longest: int
) -> tuple[MicroBatch, dict[bool, PassMemory]]:
    """The largest micro-batch, and what its passes hold without and with gradient checkpointing."""
    response = _longest_response(config)
    row = longest + response - 1
    rows = max(1, config.optimizer.micro_batch_tokens // row)
    batch = MicroBatch(rows * row, rows * response)
    options: dict[str, Any] = {"dtype": config.model.dtype, "autocast": sharding.autocast, "device": device.kind}
    return batch, {
        checkpointing: pass_memory(shape, batch, checkpointing=checkpointing, **options)
        for checkpointing in (False, True)
    }


def _transformers_cache(config: Config, shape: DecoderShape, sharding: Sharding, longest: int) -> tuple[int, int]:
    """Sequences that the transformers engine of one process decodes at a time, at most, and the bytes of their cache.

    Both paths go out as one batch; where metas go first, in two of them, this is an upper bound.
    """
    planned = plan_step(config, longest)
    sampled = -(-(planned.solutions + planned.metas) // sharding.processes)
    at_once = min(config.rollout.max_batch_size, sampled)
    length, ahead = longest + _longest_response(config), longest if sampled > at_once else 0
    return at_once, transformers_cache(shape, config.model.dtype, sequences=at_once, length=length, ahead=ahead)


def _longest_response(config: Config) -> int:
    """The larger limit of the two paths, in tokens."""
    rollout = config.rollout
    return max(rollout.max_solution_tokens, rollout.max_meta_tokens if config.algorithm.meta else 0)


def _show_host(
    config: Config, shape: DecoderShape, launch: Launch, device: Device, longest: int, console: Console
) -> None:
    on_gpu = device.memory is not None
    sharding = sharding_of(launch, config)
    state = training_state(shape, config.model.dtype, sharding, on_gpu=on_gpu)
    activations = _passes(config, shape, sharding, device, longest)[1][config.model.gradient_checkpointing].peak
    training = state.peak(activations, micro_batches=2) + _reference_bytes(config, shape)
    sampler = choose_engine(config.rollout, on_gpu=on_gpu, with_vllm=True if on_gpu else None)
    engine = engine_memory(shape, config.rollout, config.model.dtype, gpu=device.memory, training=0)
    sampling = 0
    if sampler == "transformers":
        sampling = _transformers_cache(config, shape, sharding, longest)[1]
    elif sampler == "vllm":
        sampling = engine.weights + engine.cache
    host = host_memory(
        config,
        shape,
        processes=launch.on_one_machine,
        offloaded=state.on_host,
        engine_weights=engine.weights if sampler == "vllm" else None,
        training=0 if on_gpu else training,
        sampling=0 if on_gpu else sampling,
    )
    table = Table(title="Host memory of one machine, GB, by arithmetic")
    for heading in ("part", "GB"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, value in _host_rows(host, on_gpu=on_gpu).items():
        table.add_row(name, f"{value / 1e9:.2f}")
    found = memory_here() if device.here else None
    table.add_row("memory of this machine", "unknown, as it is not here" if found is None else f"{found / 1e9:.2f}")
    console.print(table)
    if found is not None and host.total > found:
        console.print(
            f"the host has {found / 1e9:.1f} GB of memory and up to {host.total / 1e9:.1f} GB are needed at once: "
            "start fewer processes on a machine, lower rewards.verifier_workers or rewards.verifier_memory_mb",
            highlight=False,
        )


def _host_rows(host: HostMemory, *, on_gpu: bool) -> dict[str, int]:
    rows = {
        "loading the model, one copy for all processes": host.loading,
        "optimiser and weights that are offloaded": host.offloaded,
        "weights of sleeping engines (sleep_level 1)": host.sleeping,
        "training, peak of an update": host.training,
        "engines and their caches": host.sampling,
        "limit of verifier workers": host.verifiers,
        "at once, at most": host.total,
    }
    only_without_gpu = ("training, peak of an update", "engines and their caches")
    return {name: value for name, value in rows.items() if not (on_gpu and name in only_without_gpu)}


def _reference_bytes(config: Config, shape: DecoderShape) -> int:
    """Bytes of the frozen copy that a KL term is taken to; 0 where the loss has none."""
    needed = resolve_algorithm(config.algorithm).loss.needs_reference
    return shape.parameters * BYTES[config.model.dtype] if needed else 0


def _show_cache(
    config: Config, engine: EngineMemory, gpu: int, training: int, longest: int, response: int, console: Console
) -> None:
    running = config.rollout.max_batch_size
    full, half = longest + response, longest + response // 2
    roomy = int(gpu * engine.fitting_share) - engine.weights - ENGINE_OVERHEAD
    slower = slowdown(engine, roomy, half, running=running)
    table = Table(title="vLLM and training on one GPU, by arithmetic", show_header=False)
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
            f"rollout.gpu_memory_utilization: {share} does not fit together with the {training / 1e9:.1f} GB of "
            "training "
            f"and the {OVERHEAD / 1e9:.0f} GB of libraries; allowed: at most {engine.fitting_share:.2f}"
        )
    elif slower > _STARVED:
        console.print(
            f"rollout.gpu_memory_utilization: {share} leaves the engine little memory: generation takes {slower:.1f} "
            "times "
            f"as long as with sleep_level 2 and {int(engine.fitting_share * 20) / 20:.2f}"
        )


def _update(sharding: Sharding) -> str:
    if sharding.stage:
        offloaded = ", optimiser on the host" if sharding.offload_optimizer else ""
        return f"DeepSpeed ZeRO {sharding.stage}{offloaded}"
    return "one process" if sharding.processes == 1 else "DDP, a whole copy in each process"
