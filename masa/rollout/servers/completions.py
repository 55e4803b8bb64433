"""One sample as a request to vLLM's completions route, and its answer as a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.rollout.engine import Rollout, RolloutError, RolloutRequest
from masa.rollout.servers.http_client import ServerError
from masa.rollout.stop_texts import StopTexts
from masa.tokens.arrays import LogProbs, TokenIds

# What leaves the distribution as it is; `watermarking` is off only where a request says so.
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "watermarking": False,
}


@dataclass(frozen=True)
class Stops:
    """What ends a response: token ids, and texts."""

    ids: Sequence[int]
    texts: StopTexts | None = None


def completion_body(
    request: RolloutRequest, index: int, *, model: str, stop_ids: Sequence[int], stop_texts: StopTexts | None = None
) -> dict[str, Any]:
    """What is posted for sample ``index`` of ``request``; ``model`` is the name that the server serves it under.

    The server looks for texts that end a response where `StopTexts` does.

    Every parameter of sampling is said, also those that change nothing: what is left out, a server takes from the
    model's generation_config, and its samples are then not the policy's.
    """
    texts: dict[str, Any] = {}
    if stop_texts is not None:
        texts = {"stop": list(stop_texts.texts), "include_stop_str_in_output": True, "skip_special_tokens": False}
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "n": 1,
        "max_tokens": request.max_new_tokens,
        "min_tokens": 0,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "top_k": request.sampling.top_k,
        "min_p": request.sampling.min_p,
        **_NEUTRAL,
        "seed": request.seeds[index],
        "stop_token_ids": list(stop_ids),
        **texts,
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
    }


def completed_rollout(
    request: RolloutRequest,
    index: int,
    answer: Mapping[str, Any],
    weight_version: int,
    seconds: float,
    *,
    stops: Stops,
) -> Rollout:
    """The rollout in a server's answer; it ends where the server's own tokenizer saw a text of ``stops``, or before.

    Raises:
        ServerError: the server gave the request up.
        RolloutError: the server ended it by a rule of its own, which no request can switch off.
    """
    choice = answer["choices"][0]
    if choice["finish_reason"] not in ("stop", "length"):
        raise ServerError(f"a request ended as {choice['finish_reason']!r}")
    _require_our_end(request, choice, stops)
    rollout = Rollout(
        problem_id=request.problem_id,
        path=request.path,
        index=index,
        prompt_ids=request.prompt_ids,
        token_ids=TokenIds(choice["token_ids"]),
        logprobs=LogProbs(choice["logprobs"]["token_logprobs"]),
        finish_reason=choice["finish_reason"],
        weight_version=weight_version,
        seconds=seconds,
    )
    return rollout if stops.texts is None else stops.texts.cut(rollout)


def _require_our_end(request: RolloutRequest, choice: Mapping[str, Any], stops: Stops) -> None:
    reason, token_ids, stop_ids = choice["finish_reason"], choice["token_ids"], stops.ids
    if stops.texts is not None and token_ids and choice.get("stop_reason") in stops.texts.texts:
        return
    found = ""
    if reason == "length" and len(token_ids) < request.max_new_tokens:
        found = f"after {len(token_ids)} tokens, of {request.max_new_tokens} allowed"
    elif reason == "stop" and (not token_ids or token_ids[-1] not in stop_ids):
        found = f"at the tokens {list(token_ids[-1:])}, which end no response (those that do: {sorted(stop_ids)})"
    if found:
        raise RolloutError(
            f"problem {request.problem_id!r}: the server ended a response {found}, by a rule of its own; start it with "
            "--generation-config vllm, without --override-generation-config, and with room for prompt and response"
        )
