"""What vLLM's engine samples at a time: one of its requests for each sample, and rollouts of what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from masa.rollout.engine import Finished, Rollout, RolloutError, RolloutRequest
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
        stop_texts: texts that end a response as well.
    """

    stop_ids: Sequence[int]
    adapter: int | None
    weight_version: int
    closing: threading.Event
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


@dataclass(frozen=True)
class _Sample:
    number: int
    request: RolloutRequest
    index: int
    started: float


class VllmBatch:
    """The samples of an ``LLMEngine`` of vLLM, which may become more while it samples."""

    def __init__(self, engine: Any, sampling: Sampling) -> None:
        self._engine = engine
        self._sampling = sampling
        self._samples: list[_Sample] = []
        self._requests = 0

    def advance(self, requests: Sequence[RolloutRequest]) -> list[Finished]:
        """Add ``requests``, and let the engine work until something has ended; nothing where nothing is left.

        Raises:
            RolloutError: vLLM gave a sample up, or the engine is closing.
        """
        try:
            self._add(requests)
            while self._engine.has_unfinished_requests():
                if self._sampling.closing.is_set():
                    raise RolloutError("the engine was closed while it sampled")
                if found := [self._finished(output) for output in self._engine.step() if self._has_ended(output)]:
                    return found
        except BaseException:
            # What is left over would be waited for by the next batch.
            self.abort()
            raise
        return []

    def abort(self) -> None:
        """Give up what has not ended."""
        processor = self._engine.output_processor
        self._engine.abort_request([*processor.request_states, *processor.parent_requests], internal=True)

    def _has_ended(self, output: Any) -> bool:
        """Whether vLLM has ended it, or one of our texts, at which vLLM is told to."""
        if output.finished:
            return True
        ended = _ends_by_text(output, self._sampling.stop_texts)
        if ended:
            self._engine.abort_request([output.request_id])
        return ended

    def _finished(self, output: Any) -> Finished:
        sample = self._samples[int(output.request_id)]
        version = self._sampling.weight_version
        texts = self._sampling.stop_texts
        rollout = finished_rollout(sample.request, sample.index, output, version, sample.started, texts)
        return Finished(sample.number, sample.request, rollout)

    def _add(self, requests: Sequence[RolloutRequest]) -> None:
        """One vLLM request per sample, each with its own seed; those of a prompt share its cached prefix."""
        if not requests:
            return
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        started = time.perf_counter()
        # Texts that end a response are looked for here, for what has come so far.
        texts = self._sampling.stop_texts
        kind = RequestOutputKind.FINAL_ONLY if texts is None else RequestOutputKind.CUMULATIVE
        # Without it every token costs several Python objects.
        flat = {"flat_logprobs": True} if "flat_logprobs" in SamplingParams.__struct_fields__ else {}
        adapter = self._sampling.adapter
        options = {} if adapter is None else {"lora_request": adapter_request(adapter)}
        for request in requests:
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            for index, seed in enumerate(request.seeds):
                parameters = SamplingParams(
                    temperature=request.sampling.temperature,
                    top_p=request.sampling.top_p,
                    top_k=request.sampling.top_k,
                    min_p=request.sampling.min_p,
                    seed=seed,
                    max_tokens=request.max_new_tokens,
                    stop_token_ids=list(self._sampling.stop_ids),
                    ignore_eos=True,
                    logprobs=0,
                    **flat,
                    detokenize=False,
                    output_kind=kind,
                )
                name = str(len(self._samples))
                self._samples.append(_Sample(self._requests, request, index, started))
                self._engine.add_request(name, prompt, parameters, **options)
            self._requests += 1


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
