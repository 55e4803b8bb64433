"""The columns of the table of models: what each way of computing or keeping log-probs makes of a tiny model."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny import VOCABULARY, tiny_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from masa.config import ConfigError
from masa.config.schema import LoraSection, ModelSection
from masa.policy.collate import TokenBatch, TokenRow, collate, collate_behind_prompts, pack
from masa.policy.loading import prepare_policy
from masa.policy.policy_module import PolicyModule
from masa.policy.row_checks import Collate, batch_logprobs, distance, layout_distance, leak, own_logprobs
from masa.policy.shared_prompts import can_share_prompts
from masa.rollout.engine import RolloutRequest
from masa.rollout.transformers import TransformersEngine
from masa.rollout.weights import policy_weights

COLUMNS = ("padded", "packed", "shared", "engine", "lora", "checkpoint")
TOLERANCE = 1e-4
_PROMPTS = (5, 7, 3, 40)
_RESPONSES = (9, 14, 20, 12)


@dataclass(frozen=True)
class Cell:
    """The largest difference in nats, or why the product does not do this with the model, or what went wrong."""

    difference: float = 0.0
    refused: str = ""
    error: str = ""

    @property
    def right(self) -> bool:
        return bool(self.refused) or (not self.error and self.difference <= TOLERANCE)

    def __str__(self) -> str:
        if self.error:
            return f"WRONG: {self.error}"
        if self.refused:
            return f"refused: {self.refused}"
        return f"{self.difference:.0e}" if self.difference <= TOLERANCE else f"WRONG: {self.difference:.2g}"


def probe_rows() -> list[TokenRow]:
    """Rows of different lengths, one of them longer than the window; the first prompt has two responses."""
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY - 6, (count,), generator=generator).tolist())

    rows = [TokenRow(ids(prompt), ids(response)) for prompt, response in zip(_PROMPTS, _RESPONSES, strict=True)]
    return [rows[0], TokenRow(rows[0].prompt_ids, ids(6)), *rows[1:]]


def measure(family: str, columns: tuple[str, ...] = COLUMNS, **changes: Any) -> dict[str, Cell]:
    """All columns of one family's tiny model.

    Raises:
        Exception: the model itself cannot be made or run.
    """
    model = tiny_model(family, **changes)
    model(input_ids=torch.tensor([list(range(3, 9))]), use_cache=False)
    measures: dict[str, Callable[[PreTrainedModel], Cell]] = {
        "padded": padded,
        "packed": lambda one: in_layout(one, pack),
        "shared": shared,
        "engine": engine,
        "lora": lora,
        "checkpoint": checkpoint,
    }
    return {name: _guarded(measures[name], model) for name in columns}


def _guarded(measured: Callable[[PreTrainedModel], Cell], model: PreTrainedModel) -> Cell:
    try:
        cell = measured(copy.deepcopy(model))
    except ConfigError as error:
        return Cell(refused=" ".join(str(error).split())[:160])
    except Exception as error:
        return Cell(error=f"{type(error).__name__}: {' '.join(str(error).split())[:80]}")
    return cell if math.isfinite(cell.difference) else Cell(error="not finite")


def _policy(model: PreTrainedModel, **section: Any) -> PolicyModule:
    return PolicyModule(prepare_policy(model, ModelSection(**section)), temperature=1.0)


def _forward(module: PolicyModule) -> Callable[[TokenBatch], torch.Tensor]:
    return lambda batch: module(batch, False)[0]


def padded(model: PreTrainedModel) -> Cell:
    """The update's log-probs of padded rows against the model's own logits."""
    module, rows = _policy(model), probe_rows()
    own = [own_logprobs(model, row, 1.0) for row in rows]
    return Cell(distance(batch_logprobs(_forward(module), rows, collate, model.device), own))


def in_layout(model: PreTrainedModel, layout: Collate) -> Cell:
    """A layout against padded rows, and what of one row reaches another."""
    module, rows = _policy(model), probe_rows()
    found = [
        layout_distance(_forward(module), rows, layout, model.device),
        leak(_forward(module), rows, layout, VOCABULARY, model.device),
    ]
    return Cell(max(found))


def shared(model: PreTrainedModel) -> Cell:
    if not can_share_prompts(model):
        return Cell(refused="prompts are not shared")
    return in_layout(model, collate_behind_prompts)


def engine(model: PreTrainedModel) -> Cell:
    """The `transformers` engine's log-probs of its own samples against the model's own logits."""
    prepare_policy(model, ModelSection())
    requests = [
        RolloutRequest(str(length), "solution", tuple(range(5, 5 + length)), (length, length + 1), 24)
        for length in (4, 9, 30)
    ]
    rollouts = [
        one for group in TransformersEngine(model, stop_ids=[2], max_batch_size=8).generate(requests) for one in group
    ]
    own = [own_logprobs(model, TokenRow(one.prompt_ids, one.token_ids), 1.0) for one in rollouts]
    return Cell(distance([torch.tensor(one.logprobs) for one in rollouts], own))


def lora(model: PreTrainedModel) -> Cell:
    """A model with adapters that do something against the plain model that their merged weights make."""
    plain = copy.deepcopy(model)
    prepare_policy(model, ModelSection(lora=LoraSection(rank=2)))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
        own = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
        for name, tensor in policy_weights(model):
            own[name].copy_(tensor)
    rows = probe_rows()
    return Cell(distance(*([own_logprobs(one, row, 1.0) for row in rows] for one in (model, plain))))


def checkpoint(model: PreTrainedModel) -> Cell:
    """The model as a checkpoint holds it, loaded by `transformers`, against the model."""
    prepare_policy(model, ModelSection())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, state_dict=dict(policy_weights(model)))
        attention = model.config._attn_implementation
        loaded = AutoModelForCausalLM.from_pretrained(Path(folder), dtype=model.dtype, attn_implementation=attention)
    rows = probe_rows()
    return Cell(distance(*([own_logprobs(one, row, 1.0) for row in rows] for one in (loaded.eval(), model))))
