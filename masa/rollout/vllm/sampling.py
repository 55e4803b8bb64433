"""One batch of requests through vLLM's engine: one of its requests for each sample, and rollouts of what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from masa.rollout.engine import Ended, Rollout, RolloutError, RolloutRequest
from masa.rollout.stop_texts import StopTexts
from masa.rollout.vllm.adapters import adapter_request
from masa.tokens.arrays import LogProbs, TokenIds

_LAST_STEPS = 4


@dataclass(frozen=True)
class Sampling:
    """What all samples of a batch have in common.

    Args:
        stop_ids: token ids that end a response.
        adapter: the number of the adapter to sample with, None for the weights alone.
        weight_version: of the weights and the adapter.
        closing: set by another thread when what is being sampled is to be given up.
        ended: told of each rollout when it ends.
        stop_texts: texts that end a response as well.
    """

    stop_ids: Sequence[int]
    adapter: int | None
    weight_version: int
    closing: threading.Event
    ended: Ended | None = None
    stop_texts: StopTexts | None = None


def require_lengths(requests: Sequence[RolloutRequest], max_model_len: int) -> None:
    """Prompt and response must fit into the engine together.

    Raises:
        RolloutError: they do not.
    """
    for request in requests:
        needed = len(request.prompt_ids) + request.max_new_tokens
        if needed > max_model_len:
            raise RolloutError(
                f"problem {request.problem_id!r}: the {request.path} prompt has {len(request.prompt_ids)} tokens "
                f"and its response may have {request.max_new_tokens}, {needed} together; the engine takes "
                f"{max_model_len}"
            )


def sample_batch(
    engine: Any, requests: Sequence[RolloutRequest], sampling: Sampling, started: float
) -> list[list[Rollout]]:
    """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

    ``engine`` is vLLM's ``LLMEngine``; ``started`` is when the batch began, by `time.perf_counter`.

    Raises:
        RolloutError: vLLM gave a sample up, or the engine is closing.
    """
    samples = [(request, index) for request in requests for index in range(len(request.seeds))]
    finished: dict[int, Rollout] = {}
    try:
        _submit(engine, requests, sampling)
        while engine.has_unfinished_requests():
            if sampling.closing.is_set():
                raise RolloutError("the engine was closed while it sampled")
            for output in engine.step():
                number = int(output.request_id)
                if output.finished or _ends_by_text(output, sampling.stop_texts):
                    if not output.finished:
                        engine.abort_request([output.request_id])
                    rollout = finished_rollout(
                        *samples[number], output, sampling.weight_version, started, sampling.stop_texts
                    )
                    finished[number] = rollout
                    if sampling.ended is not None:
                        sampling.ended(samples[number][0], rollout)
    except BaseException:
        # What is left over would be waited for by the next call.
        _abort_all(engine)
        raise
    numbers = iter(range(len(samples)))
    return [[finished[next(numbers)] for _ in request.seeds] for request in requests]


def drop_prefixes(engine: Any) -> bool:
    """Forget all cached prefixes; whether that could be done."""
    for _ in range(_LAST_STEPS):
        if engine.reset_prefix_cache():
            return True
        # An engine that schedules ahead may have a step left over of requests that have ended.
        engine.step()
    return False


def _ends_by_text(output: Any, texts: StopTexts | None) -> bool:
    """Whether the newest token of an output that is not finished completes a text that ends responses."""
    if texts is None:
        return False
    token_ids = output.outputs[0].token_ids
    return texts.contained(token_ids[-texts.window :]) and texts.contained(token_ids)


def finished_rollout(
    request: RolloutRequest,
    index: int,
    output: Any,
    weight_version: int,
    started: float,
    stop_texts: StopTexts | None = None,
) -> Rollout:
    """The rollout of vLLM's ``output``, sample ``index`` of ``request``.

    Raises:
        RolloutError: vLLM ended it for another reason than a stop token or the limit, and no stop text ends it.
    """
    completion = output.outputs[0]
    if completion.finish_reason not in ("stop", "length") and (stop_texts is None or output.finished):
        raise RolloutError(f"problem {request.problem_id!r}: vLLM ended a sample as {completion.finish_reason!r}")
    token_ids = TokenIds(completion.token_ids)
    rollout = Rollout(
        problem_id=request.problem_id,
        path=request.path,
        index=index,
        prompt_ids=request.prompt_ids,
        token_ids=token_ids,
        logprobs=_logprobs(completion.logprobs, token_ids),
        finish_reason=completion.finish_reason or "stop",
        weight_version=weight_version,
        seconds=time.perf_counter() - started,
    )
    return rollout if stop_texts is None else stop_texts.cut(rollout)


def _logprobs(found: Any, token_ids: TokenIds) -> LogProbs:
    """The log-probs of the tokens that were drawn, from a mapping a position or from vLLM's flat lists."""
    starts = getattr(found, "start_indices", None)
    if starts is not None:
        places = np.asarray(starts, dtype=np.int64)
        if np.array_equal(np.asarray(found.token_ids)[places], token_ids):
            return LogProbs(np.asarray(found.logprobs)[places])
    return LogProbs([float(at[token].logprob) for at, token in zip(found, token_ids, strict=True)])


def _submit(engine: Any, requests: Sequence[RolloutRequest], sampling: Sampling) -> None:
    """One vLLM request per sample, each with its own seed; those of a prompt share its cached prefix."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    number = 0
    # Texts that end a response are looked for here, for what has come so far.
    kind = RequestOutputKind.FINAL_ONLY if sampling.stop_texts is None else RequestOutputKind.CUMULATIVE
    # Without it every token costs several Python objects.
    flat = {"flat_logprobs": True} if "flat_logprobs" in SamplingParams.__struct_fields__ else {}
    adapter = {} if sampling.adapter is None else {"lora_request": adapter_request(sampling.adapter)}
    for request in requests:
        prompt = {"prompt_token_ids": list(request.prompt_ids)}
        for seed in request.seeds:
            parameters = SamplingParams(
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                top_k=request.sampling.top_k,
                min_p=request.sampling.min_p,
                seed=seed,
                max_tokens=request.max_new_tokens,
                stop_token_ids=list(sampling.stop_ids),
                ignore_eos=True,
                logprobs=0,
                **flat,
                detokenize=False,
                output_kind=kind,
            )
            engine.add_request(str(number), prompt, parameters, **adapter)
            number += 1


def _abort_all(engine: Any) -> None:
    processor = engine.output_processor
    engine.abort_request([*processor.request_states, *processor.parent_requests], internal=True)
