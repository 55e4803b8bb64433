"""Peaks of whole updates by torch's own allocator, beside what the memory model says of them.

`PYTHONPATH=. OMP_NUM_THREADS=1 python tests/planning/measured_peaks.py` prints the table of docs/planning.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from masa.config import Config, load_config
from masa.planning.activations import MicroBatch, pass_memory
from masa.planning.shapes import DecoderShape, shape_of
from masa.planning.training_state import Sharding, TrainingState, training_state

_PROMPT = 32
_SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}


@dataclass(frozen=True)
class Case:
    """``rows`` of 256 tokens in micro-batches of ``per_batch`` of them; ``shape`` are changes of a small Qwen3's."""

    name: str
    rows: int = 8
    per_batch: int = 4
    dtype: str = "float32"
    checkpointing: bool = False
    lora: int = 0
    autocast: bool = False
    response: int = 224
    family: str = "Qwen3"
    shape: dict[str, Any] = field(default_factory=dict)

    @property
    def row_tokens(self) -> int:
        return _PROMPT + self.response - 1


CASES = [
    Case("as it is"),
    Case("checkpointing", checkpointing=True),
    Case("one micro-batch", rows=4),
    Case("one micro-batch, checkpointing", rows=4, checkpointing=True),
    Case("8 layers", shape={"num_hidden_layers": 8}),
    Case("8 layers, checkpointing", shape={"num_hidden_layers": 8}, checkpointing=True),
    Case("wide MLP", shape={"intermediate_size": 3072}),
    Case("wide MLP, checkpointing", shape={"intermediate_size": 3072}, checkpointing=True),
    Case("16 heads of 64, no groups", shape={"num_attention_heads": 16, "num_key_value_heads": 16}),
    Case("vocabulary 32,768, tied", shape={"vocab_size": 32768, "tie_word_embeddings": True}),
    Case(
        "vocabulary 65,536, blocks of it, checkpointing",
        rows=4,
        per_batch=2,
        response=512,
        checkpointing=True,
        shape={"vocab_size": 65536, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2},
    ),
    Case("bfloat16", dtype="bfloat16"),
    Case("bfloat16, checkpointing", dtype="bfloat16", checkpointing=True),
    Case("bfloat16 arithmetic over float32", autocast=True),
    Case("bfloat16 arithmetic over float32, checkpointing", autocast=True, checkpointing=True),
    Case("LoRA, rank 8", lora=8),
    Case("LoRA, rank 8, checkpointing", lora=8, checkpointing=True),
    Case("LoRA, rank 8, bfloat16", lora=8, dtype="bfloat16"),
    Case("Llama", family="Llama"),
    Case("Llama, checkpointing", family="Llama", checkpointing=True),
]


def config_of(case: Case) -> Config:
    return load_config(
        None,
        [
            f"model.gradient_checkpointing={str(case.checkpointing).lower()}",
            f"model.lora.rank={case.lora}",
            f"optimizer.micro_batch_tokens={case.per_batch * case.row_tokens}",
            "optimizer.share_prompts=off",
        ],
    )


def make_model(case: Case) -> Any:
    import transformers

    from masa.model.loading import prepare_policy

    kind = getattr(transformers, f"{case.family}Config"), getattr(transformers, f"{case.family}ForCausalLM")
    model = kind[1](kind[0](**{**_SHAPE, **case.shape})).to(getattr(torch, case.dtype))
    return prepare_policy(model, config_of(case).model)


def measured_peak(case: Case) -> int:
    """Bytes: the most that torch's allocator had given out at once, from an empty machine to the end of two updates."""

    def train() -> None:
        update = make_update(case)
        update()
        update()

    return _peak_bytes(train)


def measured_seconds(case: Case) -> float:
    """CPU-seconds of an update, the faster one of two after a first one."""
    update = make_update(case)
    update()
    seconds = []
    for _ in range(2):
        started = time.process_time()
        update()
        seconds.append(time.process_time() - started)
    return min(seconds)


def make_update(case: Case) -> Callable[[], None]:
    """A new policy, and what updates it once on the rows of the case."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from masa.policy.forward.policy_module import PolicyModule
    from masa.policy.objective.algorithm import resolve_algorithm
    from masa.policy.update.optimizer import make_optimizer
    from masa.policy.update.updater import PolicyUpdater, TrainingRow

    config = config_of(case)
    generator = torch.Generator().manual_seed(0)
    vocabulary = case.shape.get("vocab_size", _SHAPE["vocab_size"])

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, vocabulary, (count,), generator=generator).tolist())

    rows = [
        TrainingRow(ids(_PROMPT), ids(case.response), (-1.0,) * case.response, 1.0 if number % 2 else -1.0)
        for number in range(case.rows)
    ]
    AcceleratorState._reset_state(True)
    module = PolicyModule(make_model(case), temperature=1.0)
    updater = PolicyUpdater(
        Accelerator(cpu=True, mixed_precision="bf16" if case.autocast else "no"),
        module,
        make_optimizer(module, config.optimizer),
        config.optimizer,
        resolve_algorithm(config.algorithm).loss,
        constant_length=case.response,
        total_updates=3,
    )

    def update() -> None:
        updater.update([rows])

    return update


def predicted(case: Case) -> tuple[int, DecoderShape, TrainingState]:
    """The peak by formula, the shape and the state it was computed from."""
    with torch.device("meta"):
        shape = shape_of(make_model(case))
    state = training_state(shape, case.dtype, Sharding(autocast=case.autocast), on_gpu=False)
    activations = pass_memory(
        shape,
        MicroBatch(case.per_batch * case.row_tokens, case.per_batch * case.response),
        dtype=case.dtype,
        checkpointing=case.checkpointing,
        autocast=case.autocast,
        device="cpu",
    )
    return state.peak(activations.peak, micro_batches=case.rows // case.per_batch), shape, state


def _peak_bytes(function: Callable[[], None]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [one for one in profiler.profiler.kineto_results.events() if one.name() == "[memory]"]  # type: ignore[union-attr]
    total = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


if __name__ == "__main__":
    print("| update | parameters | measured, MB | by formula, MB | ratio |\n| --- | --- | --- | --- | --- |")
    for one in CASES:
        formula, its_shape, _ = predicted(one)
        found = measured_peak(one)
        numbers = f"{its_shape.parameters:,} | {found / 1e6:.1f} | {formula / 1e6:.1f} | {formula / found:.3f}"
        print(f"| {one.name} | {numbers} |")
