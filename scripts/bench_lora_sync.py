"""What an update of vLLM costs with LoRA, as adapters and merged: bytes, seconds, and how far log-probs are apart.

    python scripts/bench_lora_sync.py [--rank 16] [--rounds 7] [--dtype float32,bfloat16]

Two engines in one process, one given adapters and one merged weights, take the same updates in turn. The difference is
the largest one, in nats, between an engine's log-probs of its own samples and those that the policy computes with its
adapters; the prompts are those of `masa.rollout.weights.agreement`. Medians over the rounds; every round moves the
adapters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from masa.config import load_config
from masa.config.schema import LoraSection
from masa.model.lora import add_adapters
from masa.model.weights import adapter_weights, policy_weights
from masa.rollout.factory import make_engine
from masa.rollout.weights.agreement import check_agreement

FORMS = ("adapter", "merged")
STOP = 1
# The spread of what training adds to the second matrix of an adapter, whose first is about as large as 1 / sqrt(width).
_MOVE = 0.01


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    print("| dtype | given | MB an update | seconds an update | largest difference of log-probs, nats |")
    print("| --- | --- | --- | --- | --- |")
    for dtype in options.dtype.split(","):
        _measure(getattr(torch, dtype), options)


def _measure(dtype: torch.dtype, options: argparse.Namespace) -> None:
    policy = _policy(dtype, options.rank)
    engines = {form: _engine(policy, form) for form in FORMS}
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    differences: dict[str, list[float]] = {form: [] for form in FORMS}
    for version in range(1, options.rounds + 1):
        _learn(policy)
        for form, engine in engines.items():
            started = time.perf_counter()
            engine.update_weights(policy, version)
            seconds[form].append(time.perf_counter() - started)
            agreement = check_agreement(engine, policy, stop_ids=[STOP])
            if agreement.weights_equal is not True:
                raise SystemExit(f"{form}: the engine's weights are not the policy's")
            differences[form].append(agreement.difference)
    sizes = {"adapter": _bytes(adapter_weights(policy), dtype), "merged": _bytes(policy_weights(policy), dtype)}
    for form, engine in engines.items():
        name = str(dtype).removeprefix("torch.")
        taken, difference = statistics.median(seconds[form]), statistics.median(differences[form])
        print(f"| {name} | {form} | {sizes[form] / 1e6:.2f} | {taken:.4f} | {difference:.2g} |")
        engine.close()


def _policy(dtype: torch.dtype, rank: int) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=2048,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    policy = Qwen3ForCausalLM(config).to(dtype).eval()
    add_adapters(policy, LoraSection(rank=rank))
    return policy


def _engine(policy: Any, form: str) -> Any:
    options = ["rollout.engine=vllm", "rollout.kv_cache_gb=0.2", "rollout.max_batch_size=16", f"rollout.lora={form}"]
    return make_engine(load_config(None, options).rollout, policy, stop_ids=[STOP])


def _learn(policy: Any) -> None:
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(_MOVE * torch.randn(parameter.shape, device=parameter.device))


def _bytes(weights: Any, dtype: torch.dtype) -> int:
    return sum(tensor.numel() * dtype.itemsize for _, tensor in weights)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="float32,bfloat16", help="separated by commas")
    return parser.parse_args()


if __name__ == "__main__":
    main()
