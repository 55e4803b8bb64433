"""Parts that sample: the transformers engine, vLLM in process and as a server, and NCCL."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from acceptance.child import NotPossibleError
from acceptance.shapes import STOP_ID, random_qwen3

_PROMPTS, _SAMPLES = 16, 4


def transformers_engine(size: str, folder: Path) -> dict[str, Any]:
    """Tokens a second, and log-probs as the policy computes them."""
    model = random_qwen3(size)
    return _sampled(model, ["rollout.engine=transformers"], size)


def vllm_sleep0(size: str, folder: Path) -> dict[str, Any]:
    """An engine in this process that keeps its memory."""
    return _vllm(size, 0)


def vllm_sleep1(size: str, folder: Path) -> dict[str, Any]:
    """One that moves its weights to the CPU and drops its cache."""
    return _vllm(size, 1)


def vllm_sleep2(size: str, folder: Path) -> dict[str, Any]:
    """One that drops both."""
    return _vllm(size, 2)


def _vllm(size: str, level: int) -> dict[str, Any]:
    # CUDA graphs, which take long to make, in the engine of the first part alone.
    eager = str(level > 0).lower()
    settings = [f"rollout.sleep_level={level}", f"rollout.enforce_eager={eager}"]
    return _sampled(random_qwen3(size), ["rollout.engine=vllm", *settings], size)


def server_files(size: str, folder: Path) -> dict[str, Any]:
    """A server on the same device, started by the engine, that gets its weights through files."""
    return _sampled(random_qwen3(size), ["rollout.engine=vllm_server", "rollout.weight_transfer=file"], size)


def server_nccl(size: str, folder: Path) -> dict[str, Any]:
    """A server on the second GPU: NCCL takes no two members of a group on one."""
    # By name, as the visible devices may be numbered anew already.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    if len(visible) < 2:
        raise NotPossibleError("2 GPUs needed, 1 is visible")
    devices = f'rollout.server_devices=["{visible[1]}"]'
    return _sampled(random_qwen3(size), ["rollout.engine=vllm_server", "rollout.weight_transfer=nccl", devices], size)


def _sampled(model: Any, settings: list[str], size: str) -> dict[str, Any]:
    """Sample, change every weight, hand the weights over, sample again; engine and policy agree both times."""
    import torch

    from masa.config import load_config
    from masa.embedded import load_embedded_tokenizer
    from masa.rollout.factory import make_engine
    from masa.rollout.weights.agreement import check_agreement

    room = ["rollout.gpu_memory_utilization=0.4"] if size == "gpu" else ["rollout.kv_cache_gb=0.2"]
    section = load_config(
        None,
        ["rollout.max_model_len=1024", "rollout.max_batch_size=64", "rollout.enforce_eager=true", *room, *settings],
    ).rollout
    started = time.perf_counter()
    engine = make_engine(section, model, stop_ids=[STOP_ID], tokenizer=load_embedded_tokenizer())
    try:
        figures: dict[str, Any] = {"start_seconds": time.perf_counter() - started}
        first = check_agreement(engine, model, stop_ids=[STOP_ID])
        first.require()
        requests = _requests(model.config.vocab_size, size)
        engine.generate(requests[:1])
        started = time.perf_counter()
        groups = engine.generate(requests)
        figures["tokens_a_second"] = _tokens(groups) / (time.perf_counter() - started)
        if section.sleep_level:
            awake = _used()
            engine.sleep()
            figures |= {"awake_gb": awake, "asleep_gb": _used()}
            if figures["asleep_gb"] >= awake:
                raise AssertionError(f"asleep it takes {figures['asleep_gb']:.2f} GB, awake {awake:.2f}")
        with torch.no_grad():
            for parameter in model.parameters():
                # Large enough for bfloat16, and for stale weights to show.
                parameter.mul_(1.5)
        started = time.perf_counter()
        engine.update_weights(model, version=1)
        figures["update_seconds"] = time.perf_counter() - started
        second = check_agreement(engine, model, stop_ids=[STOP_ID])
        second.require()
        figures["difference_nats"] = max(first.difference, second.difference)
        figures["checksum"] = "equal" if second.weights_equal else "not compared"
    finally:
        engine.close()
    return figures


def nccl(size: str, folder: Path) -> dict[str, Any]:
    """A process group of one over NCCL: the library loads, and reduces and broadcasts."""
    import torch
    import torch.distributed as dist

    store = dist.FileStore(str(folder / "store"), 1)
    dist.init_process_group("nccl", store=store, rank=0, world_size=1, device_id=torch.device("cuda", 0))
    values = torch.arange(8.0, device="cuda")
    dist.all_reduce(values)
    dist.broadcast(values, src=0)
    total = float(values.sum())
    dist.destroy_process_group()
    if total != 28.0:
        raise AssertionError(f"the sum is {total}, expected 28")
    return {"nccl_version": ".".join(map(str, torch.cuda.nccl.version()))}


def _requests(vocabulary: int, size: str) -> list[Any]:
    from masa.rollout import RolloutRequest

    numbers = random.Random(0)
    prompts, length, new = (_PROMPTS, 128, 128) if size == "gpu" else (2, 12, 8)
    return [
        RolloutRequest(
            f"p{number}",
            "solution",
            tuple(numbers.randrange(2, vocabulary) for _ in range(length)),
            tuple(numbers.randrange(2**31) for _ in range(_SAMPLES)),
            new,
        )
        for number in range(prompts)
    ]


def _tokens(groups: list[Any]) -> int:
    return sum(len(one.token_ids) for group in groups for one in group)


def _used() -> float:
    """Gigabytes of the GPU that are taken, by whomever."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30
