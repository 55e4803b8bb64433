"""The columns of the table of models: what each way of computing or keeping log-probs makes of a tiny model.

Every column goes the way that a run goes: the model is opened as a run opens it, and the part of the start check that
belongs to the column decides on prompts of its own. What it lets pass is measured here on other rows; a difference that
it let pass is wrong.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from sizes import VOCABULARY
from tiny import tiny_model, with_wide_heads
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from masa.checkpointing.saving import write_policy
from masa.config import ConfigError
from masa.config.schema import LoraSection, ModelSection, RolloutSection
from masa.model.loading import prepare_policy
from masa.model.weights import policy_weights
from masa.policy.batching.collate import TokenRow, collate
from masa.policy.batching.row_checks import batch_logprobs, distance, layout_distance, leak, own_logprobs
from masa.policy.batching.shared_prompts import can_share_prompts
from masa.policy.forward.opening import open_policy
from masa.rollout.engine import Rollout, RolloutEngine, RolloutError, RolloutRequest
from masa.rollout.factory import make_engine
from masa.start_check import LAYOUTS, Places, check_checkpoint, check_engine, check_update, unused_layouts

COLUMNS = ("padded", "packed", "shared", "engine", "lora", "checkpoint")
VLLM = "vllm"
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cell:
    """The largest difference in nats, or why the product does not do this with the model, or what went wrong.

    ``refused`` ends a run before its first step; with ``unused`` it goes on without a layout.
    """

    difference: float = 0.0
    refused: str = ""
    unused: str = ""
    error: str = ""

    @property
    def right(self) -> bool:
        return bool(self.refused or self.unused) or (not self.error and self.difference <= TOLERANCE)

    def __str__(self) -> str:
        if self.error:
            return f"WRONG: {self.error}"
        for kind, why in (("refused", self.refused), ("not used", self.unused)):
            if why:
                return f"{kind}: {why}"
        return f"{self.difference:.0e}" if self.differs_little else f"WRONG: {self.difference:.2g}"

    @property
    def differs_little(self) -> bool:
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Opened:
    """A family's tiny model as a run opens it."""

    model: PreTrainedModel
    places: Places

    @property
    def device(self) -> torch.device:
        return self.model.device


def probe_rows() -> list[TokenRow]:
    """Rows that are measured: of different lengths, one of them longer than the window; two have one prompt."""
    return _rows((5, 7, 3, 40), (9, 14, 20, 12), second=6, seed=1)


def checked_rows() -> list[TokenRow]:
    """Rows that the start check sees: as in a run a short prompt twice, and a longer one."""
    return _rows((5, 24), (8, 8), second=8, seed=0)


def _rows(prompts: tuple[int, ...], responses: tuple[int, ...], *, second: int, seed: int) -> list[TokenRow]:
    """Random tokens, in as many rows as lengths are given, and one of ``second`` tokens behind the first prompt."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY - 6, (count,), generator=generator).tolist())

    rows = [TokenRow(ids(prompt), ids(response)) for prompt, response in zip(prompts, responses, strict=True)]
    return [rows[0], TokenRow(rows[0].prompt_ids, ids(second)), *rows[1:]]


def measure(family: str, columns: tuple[str, ...] = COLUMNS, **changes: Any) -> dict[str, Cell]:
    """All columns of one family's tiny model.

    Raises:
        Exception: the model itself cannot be made or run.
    """

    def make() -> PreTrainedModel:
        return tiny_model(family, **changes)

    model = make()
    model(input_ids=torch.tensor([list(range(3, 9))]), use_cache=False)
    try:
        opened = _opened(model, *LAYOUTS)
    except Exception as error:
        return dict.fromkeys(columns, _failed(error))
    measures: dict[str, Callable[[], Cell]] = {
        "padded": lambda: padded(opened),
        "packed": lambda: in_layout(opened, "packed"),
        "shared": lambda: in_layout(opened, "shared"),
        "checkpoint": lambda: checkpoint(opened),
        "engine": lambda: engine(opened, "transformers"),
        VLLM: lambda: engine(_opened(tiny_model(family, **{**with_wide_heads(family), **changes})), VLLM),
        "lora": lambda: lora(make()),
    }
    return {name: _guarded(measured) for name, measured in measures.items() if name in columns}


def _guarded(measured: Callable[[], Cell]) -> Cell:
    try:
        cell = measured()
    except Exception as error:
        return _failed(error)
    return cell if math.isfinite(cell.difference) else Cell(error="not finite")


def _failed(error: Exception) -> Cell:
    text = " ".join(str(error).split())
    return Cell(refused=text) if isinstance(error, ConfigError) else Cell(error=f"{type(error).__name__}: {text[:300]}")


class _NoEngine:
    """Where a column is about no engine: the parts of the start check that are called ask it for nothing."""


def _opened(model: PreTrainedModel, *layouts: str, lora_rank: int = 0) -> Opened:
    """As a run opens it; what the start check says of its update comes first, as nothing goes on without."""
    implementation: Literal["sdpa", "eager"] = "sdpa" if model.config._attn_implementation == "sdpa" else "eager"
    section = ModelSection(attention=implementation, lora=LoraSection(rank=lora_rank))
    module, _ = open_policy(prepare_policy(model, section), section, temperature=1.0)
    no_engine: Any = _NoEngine()
    places = Places(
        model=model,
        forward=lambda batch: module(batch, False)[0],
        engine=no_engine,
        layouts=layouts,
    )
    rows = checked_rows()
    check_update(places, rows, _own(model, rows))
    return Opened(model, places)


def _own(model: PreTrainedModel, rows: list[TokenRow]) -> list[Tensor]:
    return [own_logprobs(model, row, 1.0) for row in rows]


def padded(opened: Opened) -> Cell:
    """The update's log-probs of padded rows against the model's own logits."""
    rows = probe_rows()
    found = batch_logprobs(opened.places.forward, rows, collate, opened.device)
    return Cell(distance(found, _own(opened.model, rows)))


def in_layout(opened: Opened, name: str) -> Cell:
    """A layout against padded rows, and what of one row reaches another."""
    if name == "shared" and not can_share_prompts(opened.model):
        return Cell(unused="not all layers are full attention over rotary positions by sdpa")
    unused = unused_layouts(replace(opened.places, layouts=(name,)), checked_rows())
    if unused:
        return Cell(unused=unused[name])
    rows, forward, layout = probe_rows(), opened.places.forward, LAYOUTS[name]
    apart = layout_distance(forward, rows, layout, opened.device)
    return Cell(max(apart, leak(forward, rows, layout, VOCABULARY, opened.device)))


def engine(opened: Opened, name: Literal["transformers", "vllm"]) -> Cell:
    """An engine's log-probs of its own samples against the model's own logits."""
    model = opened.model
    section = RolloutSection(engine=name, max_model_len=96)
    try:
        made = make_engine(section, model, stop_ids=[2], max_prompt_tokens=48)
    except Exception as error:
        if name != VLLM or isinstance(error, ConfigError):
            raise
        # What vLLM does not take ends the run before its first step, with vLLM's own words.
        raise ConfigError(f"vLLM does not start: {type(error).__name__}: {error}") from error
    try:
        checked = _sampled(made, (5, 24), seeds=2, tokens=8)
        rows = [TokenRow(one.prompt_ids, one.token_ids) for one in checked]
        check_engine(opened.places, checked, check_update(opened.places, rows, _own(model, rows)))
        rollouts = _sampled(made, (4, 9, 30), seeds=2, tokens=24)
    except RolloutError as error:
        # The start check samples first.
        raise ConfigError(f"{name} does not sample: {error}") from error
    finally:
        made.close()
    own = _own(model, [TokenRow(one.prompt_ids, one.token_ids) for one in rollouts])
    return Cell(distance([torch.tensor(one.logprobs) for one in rollouts], own))


def _sampled(made: RolloutEngine, lengths: tuple[int, ...], *, seeds: int, tokens: int) -> list[Rollout]:
    requests = [
        RolloutRequest(
            str(length), "solution", tuple(range(5, 5 + length)), tuple(range(length, length + seeds)), tokens
        )
        for length in lengths
    ]
    return [one for group in made.generate(requests) for one in group]


def lora(model: PreTrainedModel) -> Cell:
    """The update with adapters that do something, against the plain model that their merged weights make."""
    if find_spec("peft") is None:
        return Cell(unused="peft is not installed")
    plain = copy.deepcopy(model)
    opened, rows = _opened(model, lora_rank=2), probe_rows()
    checked = checked_rows()
    check_checkpoint(opened.places, checked, _own(model, checked), 1.0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and parameter.requires_grad:
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
        own = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
        for name, tensor in policy_weights(model):
            own[name].copy_(tensor)
    if plain.config._attn_implementation != model.config._attn_implementation:
        plain.set_attn_implementation(model.config._attn_implementation)
    merged = _own(plain, rows)
    updated = batch_logprobs(opened.places.forward, rows, collate, opened.device)
    return Cell(max(distance(_own(model, rows), merged), distance(updated, merged)))


def checkpoint(opened: Opened) -> Cell:
    """The model as a checkpoint holds it, loaded by `transformers`, against the model."""
    model, checked = opened.model, checked_rows()
    check_checkpoint(opened.places, checked, _own(model, checked), 1.0)
    attention = model.config._attn_implementation
    with tempfile.TemporaryDirectory() as folder:
        write_policy(Path(folder), model)
        loaded = AutoModelForCausalLM.from_pretrained(Path(folder), dtype=model.dtype, attn_implementation=attention)
    rows = probe_rows()
    return Cell(distance(_own(loaded.eval(), rows), _own(model, rows)))
