"""Engines in several processes at once, one of which this program is: ``python vllm_ranks.py FOLDER``.

With RANK, WORLD_SIZE and MASTER_PORT set. First one engine is tensor-parallel over all processes; then each has its
own, and takes weights from policies under DDP, ZeRO 1 to 3 and LoRA in turn. The first process writes what came out to
``FOLDER/outcomes.pt``.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from update_cases import deepspeed_accelerator
from vllm.distributed import parallel_state
from vllm_runs import make_policy, make_vllm_engine

from masa.config.algorithm import OptimizerSection
from masa.config.schema import LoraSection
from masa.distributed.processes import leave_processes, make_accelerator
from masa.model.lora import add_adapters
from masa.model.weights import policy_weights
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.sharding import share_update
from masa.policy.update.updater import PolicyUpdater, TrainingRow
from masa.rollout import Rollout, RolloutRequest, Sampling
from masa.rollout.weights.agreement import check_agreement

STOP = 1
REQUESTS = [
    RolloutRequest(
        f"p{number}",
        "solution" if number % 3 else "meta",
        tuple(2 + (7 * place + 11 * number) % 200 for place in range(4 + 37 * number)),
        tuple(range(1000 * number, 1000 * number + 3)),
        8 + number,
        Sampling(0.7 if number % 2 else 1.0),
    )
    for number in range(10)
]
SHAPES = ("ddp", "lora", "zero1", "zero2", "zero3", "zero3 lora")
BUCKET_BYTES = 2**16


def values_of(groups: Iterable[Iterable[Rollout]]) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """What was sampled, by what it was sampled for; a sample that is there twice is an error."""
    found: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for rollout in (one for group in groups for one in group):
        key = (rollout.problem_id, rollout.path, rollout.index)
        assert key not in found, f"{key} is there twice"
        found[key] = (tuple(rollout.token_ids), tuple(rollout.logprobs), rollout.finish_reason)
    return found


def sample(engine: Any, accelerator: Accelerator) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """Each process samples its share of the requests; all shares."""
    mine = REQUESTS[accelerator.process_index :: accelerator.num_processes]
    return values_of(gather_object(engine.generate(mine)))


def learned(accelerator: Accelerator, *, lora: bool = False) -> Any:
    """The policy after one update, as the processes share it."""
    model = make_policy()
    if lora:
        add_adapters(model, LoraSection(rank=4, alpha=8))
    section = OptimizerSection(learning_rate=0.05, warmup_steps=0, max_grad_norm=1e9)
    module = PolicyModule(model, temperature=1.0)
    optimizer = make_optimizer(module, section)
    updater = PolicyUpdater(
        accelerator, module, optimizer, section, preset("dapo").loss, constant_length=16, total_updates=2
    )
    rows = [TrainingRow((2, 3, 4), (5 + n, 6, 7), (-5.0,) * 3, 1.0 - n % 3) for n in range(8)]
    updater.update([rows])
    return model


def fail_once(engine: Any) -> None:
    """Let the engine fail in the middle of its next batch."""
    step, calls = engine._engine.step, iter(range(10**6))

    def failing() -> Any:
        if next(calls) == 3:
            raise RuntimeError("injected")
        return step()

    engine._engine.step = failing


def tensor_parallel() -> dict[str, Any]:
    """One engine over all processes."""
    accelerator = make_accelerator()
    processes = accelerator.num_processes
    engine = make_vllm_engine(make_policy(), STOP, f"rollout.tensor_parallel_size={processes}")
    outcomes: dict[str, Any] = {"start": {"values": sample(engine, accelerator)}}
    outcomes["updated"] = updated(engine, learned(accelerator), accelerator, 1)
    engine.close()
    # An engine of another shape is to follow.
    parallel_state.destroy_model_parallel()
    return outcomes


def engines() -> dict[str, Any]:
    """An engine in each process."""
    accelerator = make_accelerator()
    engine = make_vllm_engine(make_policy(), STOP)
    outcomes: dict[str, Any] = {"start": {"values": sample(engine, accelerator)}}
    if accelerator.process_index == 1:
        fail_once(engine)
    outcomes["one of them built anew"] = {"values": sample(engine, accelerator)}
    for version, shape in enumerate(SHAPES, start=1):
        if shape.startswith("zero"):
            accelerator = deepspeed_accelerator(int(shape[4]))
        model = learned(accelerator, lora="lora" in shape)
        outcomes[shape] = updated(engine, model, accelerator, version)
    engine.close()
    return outcomes


def updated(engine: Any, model: Any, accelerator: Accelerator, version: int) -> dict[str, Any]:
    """Whether the engine agrees with the policy once it has been given its weights, and what it then samples."""
    engine.update_weights(policy_weights(model, bucket_bytes=BUCKET_BYTES), version)
    agreement = check_agreement(engine, model, stop_ids=[STOP])
    return {
        "weights_equal": agreement.weights_equal,
        "difference": agreement.difference,
        "values": sample(engine, accelerator),
    }


def gathering() -> dict[str, Any]:
    """By how much memory in use rises while a model under ZeRO 3 is gathered in buckets, and in one piece."""
    accelerator = deepspeed_accelerator(3)
    model: Any = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(24)))
    model = share_update(accelerator, model, torch.optim.SGD(model.parameters(), lr=0.1), 1.0).module
    elements = 24 * 1024 * 1024

    def risen(bucket_bytes: int) -> int:
        before, seen, most = memory_in_use(), 0, 0
        for _, tensor in policy_weights(model, bucket_bytes=bucket_bytes):
            seen, most = seen + tensor.numel(), max(most, memory_in_use() - before)
        assert seen == elements
        return most

    return {"bytes": 4 * elements, "in_buckets": risen(2**22), "in_one_piece": risen(2**30)}


class _Mallinfo2(ctypes.Structure):
    # arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost
    _fields_ = [(name, ctypes.c_size_t) for name in ("a", "b", "c", "d", "large", "e", "f", "small", "g", "h")]


def memory_in_use() -> int:
    """Bytes that this process has taken from glibc's allocator and not given back, large blocks included.

    Resident memory would say less: the allocator keeps some of what is given back, and takes it out again.
    """
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo2
    found = library.mallinfo2()
    return int(found.small + found.large)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    outcomes = {"tensor_parallel": tensor_parallel(), "engines": engines(), "gathering": gathering()}
    # Engines that have closed have left the processes' own group to them.
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        torch.save(outcomes, folder / "outcomes.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_processes()
