"""What vLLM's engine samples at a time: one of its requests for each sample, and rollouts of what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from masa.rollout.engine import Finished, FinishReason, Rollout, RolloutError, RolloutRequest
from masa.rollout.stop_texts import StopTexts
from masa.rollout.vllm.adapters import adapter_request
from masa.rollout.vllm.continuing import DRAWN, drawn_so_far
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
        self._cancelled: set[int] = set()

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

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        """Give these requests up, also those that are still to come; what was drawn of samples that have not ended."""
        fresh = set(numbers) - self._cancelled
        if not fresh:
            return []  # a stream says so again at each step
        self._cancelled |= fresh
        processor = self._engine.output_processor
        drawn = drawn_so_far(processor)
        open_names = {getattr(state, "external_req_id", name) for name, state in processor.request_states.items()}
        found: list[Finished] = []
        for place, sample in enumerate(self._samples):
            if sample.number in fresh and (name := str(place)) in open_names:
                rollout = self._aside(sample, drawn[name]) if name in drawn else sample.request.begun_of(sample.index)
                if rollout is not None:
                    found.append(Finished(sample.number, sample.request, rollout))
                self._engine.abort_request([name])
        return found

    def abort(self) -> None:
        """Give up what has not ended."""
        processor = self._engine.output_processor
        self._engine.abort_request([*processor.request_states, *processor.parent_requests], internal=True)

    def _has_ended(self, output: Any) -> bool:
        """Whether vLLM has ended it, or one of our texts, at which vLLM is told to."""
        if output.finished:
            return True
        sample = self._samples[int(output.request_id)]
        ended = _ends_by_text(output, sample.request.begun_of(sample.index), self._sampling.stop_texts)
        if ended:
            self._engine.abort_request([output.request_id])
        return ended

    def _finished(self, output: Any) -> Finished:
        sample = self._samples[int(output.request_id)]
        version = self._sampling.weight_version
        texts = self._sampling.stop_texts
        rollout = finished_rollout(sample.request, sample.index, output, version, sample.started, texts)
        return Finished(sample.number, sample.request, rollout)

    def _aside(self, sample: _Sample, state: Any) -> Rollout:
        token_ids = TokenIds(state.detokenizer.output_token_ids)
        logprobs = _logprobs(state.logprobs_processor.logprobs, token_ids)
        found = _Drawn(token_ids, logprobs, self._sampling.weight_version)
        return found.rollout(sample.request, sample.index, "aside", time.perf_counter() - sample.started)

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
        for number, request in enumerate(requests, self._requests):
            # Requests keep their numbers, whether they are sampled or not.
            for index, seed in enumerate(request.seeds if number not in self._cancelled else ()):
                prompt = {"prompt_token_ids": list(request.read_by(index))}
                begun = request.begun_of(index)
                drawn = 0 if begun is None else len(begun.token_ids)
                parameters = SamplingParams(
                    temperature=request.sampling.temperature,
                    top_p=request.sampling.top_p,
                    top_k=request.sampling.top_k,
                    min_p=request.sampling.min_p,
                    seed=seed,
                    max_tokens=request.max_new_tokens - drawn,
                    stop_token_ids=list(self._sampling.stop_ids),
                    ignore_eos=True,
                    logprobs=0,
                    **flat,
                    detokenize=False,
                    output_kind=kind,
                    **({"extra_args": {DRAWN: drawn}} if drawn else {}),
                )
                name = str(len(self._samples))
                self._samples.append(_Sample(number, request, index, started))
                self._engine.add_request(name, prompt, parameters, **options)
        self._requests += len(requests)


def drop_prefixes(engine: Any) -> bool:
    """Forget all cached prefixes; whether that could be done."""
    for _ in range(_LAST_STEPS):
        if engine.reset_prefix_cache():
            return True
        # An engine that schedules ahead may have a step left over of requests that have ended.
        engine.step()
    return False


def _ends_by_text(output: Any, begun: Rollout | None, texts: StopTexts | None) -> bool:
    """Whether the newest token of an output that is not finished completes a text that ends responses.

    ``begun`` is what the sample had drawn before.
    """
    if texts is None:
        return False
    token_ids = output.outputs[0].token_ids
    if begun is not None:
        token_ids = [*begun.token_ids, *token_ids]
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
    drawn = _Drawn(token_ids, _logprobs(completion.logprobs, token_ids), weight_version)
    rollout = drawn.rollout(request, index, completion.finish_reason or "stop", time.perf_counter() - started)
    return rollout if stop_texts is None else stop_texts.cut(rollout)


@dataclass(frozen=True)
class _Drawn:
    """What one request of vLLM's has drawn, with weights of one version."""

    token_ids: TokenIds
    logprobs: LogProbs
    weight_version: int

    def rollout(self, request: RolloutRequest, index: int, reason: FinishReason, seconds: float) -> Rollout:
        """The rollout with these tokens behind those that it had before, if any."""
        begun = request.begun_of(index)
        if begun is not None:
            return begun.gone_on(
                TokenIds([*begun.token_ids, *self.token_ids]),
                LogProbs([*begun.logprobs, *self.logprobs]),
                self.weight_version,
                finish_reason=reason,
                seconds=begun.seconds + seconds,
            )
        return Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=index,
            prompt_ids=request.prompt_ids,
            token_ids=self.token_ids,
            logprobs=self.logprobs,
            finish_reason=reason,
            weight_version=self.weight_version,
            seconds=seconds,
        )


def _logprobs(found: Any, token_ids: TokenIds) -> LogProbs:
    """The log-probs of the tokens that were drawn, from a mapping a position or from vLLM's flat lists."""
    starts = getattr(found, "start_indices", None)
    if starts is not None:
        places = np.asarray(starts, dtype=np.int64)
        if np.array_equal(np.asarray(found.token_ids)[places], token_ids):
            return LogProbs(np.asarray(found.logprobs)[places])
    return LogProbs([float(at[token].logprob) for at, token in zip(found, token_ids, strict=True)])
