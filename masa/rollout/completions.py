"""One sample as a request to vLLM's completions route, and its answer as a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.http_client import ServerError


def completion_body(request: RolloutRequest, index: int, *, model: str, stop_ids: Sequence[int]) -> dict[str, Any]:
    """What is posted for sample ``index`` of ``request``; ``model`` is the name that the server serves it under."""
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "max_tokens": request.max_new_tokens,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "top_k": request.sampling.top_k,
        "seed": request.seeds[index],
        "stop_token_ids": list(stop_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
    }


def completed_rollout(
    request: RolloutRequest, index: int, answer: Mapping[str, Any], weight_version: int, seconds: float
) -> Rollout:
    """The rollout in a server's answer.

    Raises:
        ServerError: the server gave the request up.
    """
    choice = answer["choices"][0]
    if choice["finish_reason"] not in ("stop", "length"):
        raise ServerError(f"a request ended as {choice['finish_reason']!r}")
    return Rollout(
        problem_id=request.problem_id,
        path=request.path,
        index=index,
        prompt_ids=request.prompt_ids,
        token_ids=tuple(choice["token_ids"]),
        logprobs=tuple(float(value) for value in choice["logprobs"]["token_logprobs"]),
        finish_reason=choice["finish_reason"],
        weight_version=weight_version,
        seconds=seconds,
    )
