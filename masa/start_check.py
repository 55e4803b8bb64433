"""Proof, before the first step, that the places which compute log-probabilities agree on this run's own prompts.

Compared are the model's own logits, the policy update's module (padded rows, and the layouts that the run would use),
the engine's log-probs of its own samples, and the model that a checkpoint would hold. A layout that disagrees is not
used; anything else that disagrees ends the run (docs/rollout.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from masa.checkpointing.saving import write_policy
from masa.config import Config, ConfigError
from masa.model.lora import has_adapters, stirred_adapters
from masa.model.sharded import is_sharded
from masa.model.weights import plain_name, policy_weights
from masa.policy.batching.collate import TokenRow, collate, collate_behind_prompts, pack
from masa.policy.batching.row_checks import (
    LEAK_TOLERANCES,
    Collate,
    Forward,
    batch_logprobs,
    chosen_logprobs,
    distance,
    layout_distance,
    leak,
    own_logits,
    own_logprobs,
)
from masa.problems import Problem
from masa.rollout.engine import Rollout, RolloutEngine, RolloutRequest, Sampling
from masa.rollout.requests import RequestBuilder
from masa.rollout.vllm.process_state import preserved_random_states
from masa.rollout.weights.agreement import deciding_size, tolerance

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYOUTS: Mapping[str, Collate] = {"packed": pack, "shared": collate_behind_prompts}
_OPTIONS = {"packed": "optimizer.packing", "shared": "optimizer.share_prompts"}
_TOKENS = 8
_READ_PROBLEMS = 8
# Models of more bytes are not written and read again; the names of their parameters and buffers are compared.
_LARGEST_WRITTEN = 2**29


@dataclass(frozen=True)
class Places:
    """What is compared. ``largest`` gives the largest of a number over all processes, so that all decide alike.

    Tolerances grow with ``largest_logit``, the size of those that the rows' log-probs depend on, over the temperature.
    The defaults are those of one process without mixed precision.
    """

    model: PreTrainedModel
    forward: Forward
    engine: RolloutEngine
    layouts: tuple[str, ...]
    main_process: bool = True
    mixed_precision: str = "no"
    largest: Callable[[float], float] = float
    largest_logit: float = 0.0

    @property
    def dtype(self) -> torch.dtype:
        """The type that the update computes in: under mixed precision narrower than its parameters."""
        return torch.bfloat16 if self.mixed_precision == "bf16" else self.model.dtype

    @property
    def dtypes(self) -> tuple[torch.dtype, torch.dtype]:
        return self.dtype, getattr(self.engine, "weight_dtype", self.model.dtype)


def start_requests(
    config: Config, builder: RequestBuilder, problems: Sequence[Problem], room: float, window: int | None
) -> list[RolloutRequest]:
    """A short prompt of the run's own twice, its longest, and one of them repeated beyond the model's ``window``.

    ``room`` is the most tokens that prompt and response may have.
    """
    tokens = min(_TOKENS, config.rollout.max_solution_tokens, config.rollout.max_meta_tokens)
    by_length = sorted(problems, key=lambda problem: len(problem.statement))
    chosen = [by_length[0], *by_length[-_READ_PROBLEMS:]]
    prompts = [builder.prompt_ids(problem, "solution") for problem in chosen]
    if config.algorithm.meta:
        prompts.append(builder.prompt_ids(by_length[0], "meta"))
    longest = max(prompts[1:], key=len)
    picked = [prompts[0], longest, *prompts[len(chosen) :]]
    reachable = min(room, config.prompts.max_tokens + config.rollout.max_solution_tokens)
    if window is not None and len(longest) <= window + _TOKENS <= reachable - tokens:
        picked.append((longest * (1 + (window + _TOKENS) // len(longest)))[: window + _TOKENS])
    sampling = Sampling(temperature=config.rollout.temperature)
    return [
        RolloutRequest(f"start check {number}", "solution", prompt, seeds, tokens, sampling)
        for number, prompt in enumerate(picked)
        if len(prompt) + tokens <= room
        for seeds in [(2 * number, 2 * number + 1) if number == 0 else (2 * number,)]
    ]


def check_start(places: Places, requests: Sequence[RolloutRequest], temperature: float) -> dict[str, str]:
    """Compare all places. The answer: the layouts that are not to be used, each with a line that says why.

    All processes must call it together. Random states and weights stay as they are.

    Raises:
        ConfigError: places disagree that a run cannot do without; the message names them, the difference, the way out.
    """
    if not requests:
        return {}
    with preserved_random_states():
        rollouts = [one for group in places.engine.generate(requests) for one in group]
        places.engine.statistics()
        rows = [TokenRow(one.prompt_ids, one.token_ids) for one in rollouts]
        logits = [own_logits(places.model, row, temperature) for row in rows]
        own = [chosen_logprobs(one, row) for one, row in zip(logits, rows, strict=True)]
        size = max(deciding_size(one, torch.tensor(row.token_ids)) for one, row in zip(logits, rows, strict=True))
        places = replace(places, largest_logit=places.largest(size))
        padded = check_update(places, rows, own)
        check_engine(places, rollouts, padded)
        unused = unused_layouts(places, rows)
        check_checkpoint(places, rows, own, temperature)
    return unused


def check_update(places: Places, rows: Sequence[TokenRow], own: Sequence[Tensor]) -> list[Tensor]:
    """The update's log-probs of padded rows, which must be those of the model's own logits, ``own``.

    Raises:
        ConfigError: they are not.
    """
    padded = batch_logprobs(places.forward, rows, collate, places.model.device)
    update = "the policy update's log-probs", "the model's own logits"
    _require(places, *update, distance(padded, own), "model.attention may be eager, model.liger_kernel off")
    return padded


def check_engine(places: Places, rollouts: Sequence[Rollout], padded: Sequence[Tensor]) -> None:
    """The engine's log-probs of its own samples must be the update's, ``padded``.

    Raises:
        ConfigError: they are not.
    """
    sampled = [torch.tensor([*one.logprobs]) for one in rollouts]
    engine = "the engine's log-probs of its own samples", "the policy's"
    _require(places, *engine, distance(sampled, padded), "rollout.engine may be another")


def check_layouts(places: Places, requests: Sequence[RolloutRequest]) -> dict[str, str]:
    """The part of `check_start` that no run goes without, as rows that mix are nothing one would choose.

    The last tokens of the prompts stand for responses, so that nothing is sampled.
    """
    if not places.layouts:
        return {}
    rows = [row for one in requests for row in [_divided(one.prompt_ids)] * len(one.seeds)]
    with preserved_random_states():
        return unused_layouts(places, rows)


def _divided(prompt: Sequence[int]) -> TokenRow:
    """A prompt as a row whose response is the prompt's own end."""
    ids = tuple(prompt) if len(prompt) > 1 else tuple(prompt) * 2
    length = min(_TOKENS, len(ids) // 2)
    return TokenRow(ids[:-length], ids[-length:])


def unused_layouts(places: Places, rows: Sequence[TokenRow]) -> dict[str, str]:
    """Those of ``places.layouts`` that are not to be used, each with a line that says why."""
    return {name: line for name in places.layouts if (line := _layout_line(places, name, rows))}


def _require(places: Places, what: str, other: str, found: float, way_out: str) -> None:
    worst, allowed = places.largest(found), tolerance(places.dtypes, places.largest_logit)
    if not worst <= allowed:
        raise ConfigError(
            f"rollout.check_at_start: {type(places.model).__name__}: {what} are up to {worst:.3g} nats from {other}; "
            f"allowed in {_name(places.dtype)} are {allowed:g}. {way_out}; with rollout.check_at_start=false the "
            "run would learn from another distribution than the policy's"
        )


def _layout_line(places: Places, name: str, rows: Sequence[TokenRow]) -> str:
    """Why a layout is not used; nothing where it is right."""
    layout, vocabulary = LAYOUTS[name], places.model.config.get_text_config().vocab_size
    device, dtype = places.model.device, places.dtype
    try:
        apart = layout_distance(places.forward, rows, layout, device)
        mixed = leak(places.forward, rows, layout, vocabulary, device)
        failure = ""
    except Exception as error:  # whatever a model's own code says to a layout that it does not know
        apart = mixed = torch.inf
        failure = f" ({type(error).__name__}: {error})"
    apart, mixed = places.largest(apart), places.largest(mixed)
    if apart <= tolerance([dtype], places.largest_logit) and mixed <= LEAK_TOLERANCES[dtype]:
        return ""
    return (
        f"{_OPTIONS[name]}: not used with {type(places.model).__name__}: log-probs of {name} rows are up to "
        f"{apart:.3g} nats from padded ones, and {mixed:.3g} of one row reach another{failure}"
    )


def check_checkpoint(places: Places, rows: Sequence[TokenRow], own: Sequence[Tensor], temperature: float) -> None:
    """A checkpoint, loaded again, must give the model's own log-probs, ``own``; that of a large model must name all.

    Adapters of LoRA change nothing before they have learned; while they are compared they hold small numbers, so that
    what their merging leaves out shows.

    Raises:
        ConfigError: it does not, or `transformers` has no way to load it.
    """
    _require_loadable(places.model)
    size = sum(one.numel() * one.element_size() for one in places.model.parameters())
    if is_sharded(places.model) or size > _LARGEST_WRITTEN:
        missing = _state_names(places.model) - {name for name, _ in policy_weights(places.model)}
        if missing:
            raise ConfigError(
                f"rollout.check_at_start: a checkpoint of {type(places.model).__name__} would lack "
                f"{len(missing)} of its parameters and buffers, such as {min(missing)}"
            )
        return
    apart = 0.0
    if places.main_process:
        with stirred_adapters(places.model):
            if has_adapters(places.model):
                own = [own_logprobs(places.model, row, temperature) for row in rows]
            apart = distance(_written_and_read(places.model, rows, temperature), own)
    way_out = "The architecture is not kept whole by transformers' save_pretrained"
    _require(places, "log-probs of a checkpoint, loaded again,", "the policy's", apart, way_out)


def _require_loadable(model: Any) -> None:
    """Some classes keep a part of the configuration that they were loaded by (Emu 3, Mllama), which loads nothing."""
    from transformers import AutoModelForCausalLM

    known: Any = AutoModelForCausalLM._model_mapping
    if type(model.config) not in known and not getattr(model.config, "auto_map", None):
        raise ConfigError(
            f"rollout.check_at_start: a checkpoint of {type(model).__name__} has the configuration "
            f"{type(model.config).__name__}, by which AutoModelForCausalLM loads no model: it could not be resumed or "
            "evaluated; model.path may be another model"
        )


def _written_and_read(model: Any, rows: Sequence[TokenRow], temperature: float) -> list[Tensor]:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory(prefix="masa-start-check-") as folder:
            write_policy(Path(folder), model)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=model.dtype, attn_implementation=model.config._attn_implementation, local_files_only=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"rollout.check_at_start: a checkpoint cannot be written and read: {error}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    loaded = loaded.to(model.device).eval()
    return [own_logprobs(loaded, row, temperature) for row in rows]


def _state_names(model: Any) -> set[str]:
    """Names of the parameters, tied ones once, and of the buffers that are saved."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name for name in model.state_dict() if name not in parameters}
    names = {name for name, _ in model.named_parameters() if "lora_" not in name}
    return {plain_name(name) for name in names | buffers}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
