"""``python tests/models/tolerances.py [FAMILY ...]``: how far rounding alone puts apart what the start check compares.

Every family of the quick subset, a trained policy and deeper random ones, with small logits and with large ones, as
trained models have them, in each type: the update's padded rows, packed rows, shared prompts and the `transformers`
engine against the model's own logits, and what of one row reaches another. A layout that mixes rows in float32 is
wrong, not rounded: it is counted apart, as what must stay above the tolerance.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from columns import probe_rows
from test_families import QUICK
from tiny import tiny_model
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

from masa.config import ConfigError
from masa.config.schema import ModelSection
from masa.embedded import load_embedded_policy
from masa.model.loading import prepare_policy
from masa.policy.batching.collate import TokenRow, collate, collate_behind_prompts, pack
from masa.policy.batching.row_checks import (
    LEAK_TOLERANCES,
    batch_logprobs,
    distance,
    layout_distance,
    leak,
    own_logits,
    own_logprobs,
)
from masa.policy.batching.shared_prompts import can_share_prompts
from masa.policy.forward.attention import settle_attention
from masa.policy.forward.policy_module import PolicyModule
from masa.rollout.engine import RolloutRequest
from masa.rollout.transformers.engine import TransformersEngine
from masa.rollout.weights.agreement import deciding_size, tolerance

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LAYOUTS = {"packed": pack, "shared": collate_behind_prompts}
# In float32 no right layout of any family comes near: a mixed row moves others by 1e-3 and more.
_MIXED = 1e-4
Found = dict[str, tuple[float, float]]


def policies(families: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
    """Name and float32 model, one at a time: of ``families``, or of all with the trained and the deeper ones."""
    for family in families or QUICK:
        for factor in (1, 8):
            model = tiny_model(family)
            head: Any = model.get_output_embeddings()
            if factor == 1:
                yield family, model
            elif head.weight is not model.get_input_embeddings().weight:
                head.weight.data.mul_(factor)
                yield f"{family}, logits times {factor}", model
    if families:
        return
    yield "the embedded policy", load_embedded_policy()
    for width, layers in ((256, 4), (256, 16)):
        shape = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers, "head_dim": 64}
        heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 128, "vocab_size": 2048}
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(**shape, **heads, tie_word_embeddings=False)).eval()
        model.lm_head.weight.data.normal_(0, 6 / width**0.5)
        yield f"Qwen3 of {layers} layers of {width}", model


@torch.no_grad()
def differences(model: PreTrainedModel) -> Found:
    """By comparison: the distance in nats, and the leak between rows, 0 where there is none to speak of."""
    settle_attention(model)
    module = PolicyModule(prepare_policy(model, ModelSection()), temperature=1.0)

    def forward(batch: Any) -> torch.Tensor:
        logprobs: torch.Tensor = module(batch, False)[0]
        return logprobs

    rows = probe_rows()
    vocabulary = model.config.get_text_config().vocab_size
    own = [own_logprobs(model, row, 1.0) for row in rows]
    found = {"padded": (distance(batch_logprobs(forward, rows, collate, "cpu"), own), 0.0)}
    for name, layout in _LAYOUTS.items():
        if name == "packed" or can_share_prompts(model):
            try:
                apart = layout_distance(forward, rows, layout, "cpu")
                found[name] = (apart, leak(forward, rows, layout, vocabulary, "cpu"))
            except (RuntimeError, TypeError):
                found[name] = (torch.inf, torch.inf)
    try:
        found["engine"] = (_engine_distance(model), 0.0)
    except ConfigError:
        return found
    return found


def _engine_distance(model: PreTrainedModel) -> float:
    engine = TransformersEngine(model, stop_ids=[2], max_batch_size=8)
    requests = [
        RolloutRequest(str(length), "solution", tuple(range(5, 5 + length)), (length, length + 1), 24)
        for length in (4, 9, 30)
    ]
    rollouts = [one for group in engine.generate(requests) for one in group]
    own = [own_logprobs(model, TokenRow(one.prompt_ids, one.token_ids), 1.0) for one in rollouts]
    return distance([torch.tensor(one.logprobs) for one in rollouts], own)


def main() -> None:
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    right: dict[torch.dtype, dict[str, list[float]]] = {one: {"difference": [], "leak": []} for one in DTYPES}
    wrong: dict[torch.dtype, list[tuple[float, str]]] = {one: [] for one in DTYPES}
    for policy, model in policies(sys.argv[1:]):
        exact = differences(copy.deepcopy(model))
        mixed = {name for name, numbers in exact.items() if max(numbers) > _MIXED}
        rows = probe_rows()
        logits = [own_logits(model, row, 1.0) for row in rows]
        size = max(deciding_size(one, torch.tensor(row.token_ids)) for one, row in zip(logits, rows, strict=True))
        for dtype in DTYPES:
            found = exact if dtype == torch.float32 else differences(copy.deepcopy(model).to(dtype))
            for name, (apart, leaked) in found.items():
                if name in mixed and name in _LAYOUTS:
                    wrong[dtype].append((leaked, f"{policy}, {name}"))
                    continue
                right[dtype]["difference"].append(apart)
                if name in _LAYOUTS:
                    right[dtype]["leak"].append(leaked)
                if apart > tolerance([dtype], size) or leaked > LEAK_TOLERANCES[dtype]:
                    print(f"over the tolerance: {dtype}, {policy}, {name}: {apart:.3g} nats, leak {leaked:.3g}")
    for dtype in DTYPES:
        for what, allowed in (("difference", tolerance([dtype])), ("leak", LEAK_TOLERANCES[dtype])):
            values = torch.tensor(right[dtype][what], dtype=torch.float64)
            median, high, largest = (float(values.quantile(share)) for share in (0.5, 0.95, 1.0))
            print(
                f"{dtype} {what:10s} {len(values):4d} comparisons: median {median:.2g}, 95 % {high:.2g}, "
                f"largest {largest:.2g}; allowed {allowed:g}, more for large logits"
            )
        leaks = sorted(wrong[dtype])
        if not leaks:
            continue
        print(f"{dtype} layouts that mix rows: leak at least {leaks[0][0]:.2g} ({leaks[0][1]}), of {len(leaks)}")
        print("   ", "; ".join(f"{name} {value:.2g}" for value, name in leaks))


if __name__ == "__main__":
    main()
