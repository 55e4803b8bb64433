"""The engine a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

from masa.config import ConfigError
from masa.config.schema import RolloutSection
from masa.model.copies import plain_copy
from masa.model.lora import has_adapters
from masa.model.sharded import is_sharded
from masa.rollout.engine import RolloutEngine
from masa.rollout.room import HINT_TOKENS, positions_of
from masa.rollout.stop_texts import StopTexts
from masa.rollout.weights.adapters import policy_samples_itself

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EngineName = Literal["transformers", "vllm", "vllm_server"]


def make_engine(
    section: RolloutSection,
    model: PreTrainedModel,
    *,
    stop_ids: Sequence[int],
    max_prompt_tokens: int | None = None,
    max_response_tokens: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> RolloutEngine:
    """An engine that samples from ``model`` as it is now; ``stop_ids`` end a response. The caller closes it.

    ``max_prompt_tokens`` is the longest prompt to expect; without it engines are set up for all that the model can.
    ``max_response_tokens`` is the longest response, where that is more than the limits of ``section``.
    ``tokenizer`` is for servers that are started here, which without it load it from where the model came from, and
    for ``rollout.stop``.
    Where the model is sharded over processes, all of them must call this together.

    Raises:
        ConfigError: the engine cannot work here.
    """
    engine = _make_engine(section, model, stop_ids, (max_prompt_tokens, max_response_tokens), tokenizer)
    try:
        engine.update_weights(model, version=0)
        check_decoding = getattr(engine, "check_decoding", None)
        if check_decoding is not None:
            check_decoding()
    except BaseException:
        engine.close()
        raise
    return engine


def _make_engine(
    section: RolloutSection,
    model: PreTrainedModel,
    stop_ids: Sequence[int],
    longest: tuple[int | None, int | None],
    tokenizer: PreTrainedTokenizerBase | None,
) -> RolloutEngine:
    name = choose_engine(section)
    texts = _stop_texts(section, tokenizer)
    if name == "vllm_server":
        from masa.rollout.servers.engine import ServerEngine

        length = model_length(section, model, *longest)
        return ServerEngine(
            model, section, stop_ids=stop_ids, max_model_len=length, tokenizer=tokenizer, stop_texts=texts
        )
    if name == "vllm":
        from masa.rollout.vllm.engine import VllmEngine

        length = model_length(section, model, *longest)
        return VllmEngine(model, section, stop_ids=stop_ids, max_model_len=length, stop_texts=texts)
    from masa.rollout.transformers.engine import TransformersEngine

    if section.engine_arguments:
        raise ConfigError(
            f"rollout.engine_arguments: found {', '.join(section.engine_arguments)}, allowed with the engine "
            "transformers: none; they are for vLLM"
        )
    # Sampling ahead needs weights that stay as they are while the policy learns, and one process needs whole ones.
    own = section.async_steps or is_sharded(model)
    if has_adapters(model):
        own = not policy_samples_itself(section, model)
    sampled = plain_copy(model) if own else model
    dtype = None if section.dtype == "policy" else getattr(torch, section.dtype)
    size = section.max_batch_size
    return TransformersEngine(sampled, stop_ids=stop_ids, max_batch_size=size, dtype=dtype, stop_texts=texts)


def _stop_texts(section: RolloutSection, tokenizer: PreTrainedTokenizerBase | None) -> StopTexts | None:
    if not section.stop:
        return None
    if tokenizer is None:
        raise ValueError("rollout.stop needs the tokenizer that decodes responses: make_engine(..., tokenizer=...)")
    return StopTexts(tokenizer, section.stop)


def choose_engine(section: RolloutSection, *, on_gpu: bool | None = None, with_vllm: bool | None = None) -> EngineName:
    """What ``rollout.engine`` means: here, or on a GPU or not, with vLLM installed or not."""
    if section.engine != "auto":
        return section.engine
    if section.servers:
        return "vllm_server"
    from masa.rollout.vllm.engine import vllm_is_installed

    gpu = torch.cuda.is_available() if on_gpu is None else on_gpu
    installed = vllm_is_installed() if with_vllm is None else with_vllm
    return "vllm" if gpu and installed else "transformers"


def require_divided_processes(
    section: RolloutSection, processes: int, *, on_gpu: bool | None = None, with_vllm: bool | None = None
) -> None:
    """Where vLLM samples in the processes of the run, each engine takes as many of them as it has GPUs.

    Raises:
        ConfigError: ``processes`` cannot be divided so.
    """
    if choose_engine(section, on_gpu=on_gpu, with_vllm=with_vllm) == "vllm":
        from masa.rollout.vllm.arguments import require_whole_groups

        require_whole_groups(section.tensor_parallel_size, processes)


def model_length(
    section: RolloutSection,
    model: PreTrainedModel,
    max_prompt_tokens: int | None,
    max_response_tokens: int | None = None,
) -> int:
    """Longest prompt and response together that an engine is set up for, in tokens.

    Raises:
        ConfigError: neither the configuration nor the model says it.
    """
    if section.max_model_len is not None:
        return section.max_model_len
    possible = positions_of(model.config)
    lengths = [] if possible is None else [possible]
    if max_prompt_tokens is not None:
        response = max(section.max_solution_tokens, section.max_meta_tokens, max_response_tokens or 0)
        lengths.append(max_prompt_tokens + response + HINT_TOKENS)
    if not lengths:
        raise ConfigError(
            "rollout.max_model_len: found null, and the model names no longest sequence: a number is needed"
        )
    return min(lengths)
