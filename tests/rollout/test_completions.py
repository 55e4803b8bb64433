"""What is asked of a vLLM server for a sample, and what is taken as its answer."""

from typing import Any

import pytest

from masa.rollout import RolloutRequest, Sampling
from masa.rollout.engine import RolloutError
from masa.rollout.servers.completions import Stops, completed_rollout, completion_body
from masa.rollout.servers.http_client import ServerError

REQUEST = RolloutRequest("p", "solution", (4, 5), (11, 12), 3, Sampling(0.7, 0.9, 20, 0.05))
# As the generation_config.json of a published model says, and more.
MODEL_DEFAULTS = {
    "repetition_penalty": 1.05,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "temperature": 0.1,
    "top_p": 0.5,
    "top_k": 2,
    "min_p": 0.2,
    "max_tokens": 1,
}


def _answer(reason: str, *tokens: int) -> dict[str, Any]:
    logprobs = {"token_logprobs": [-1.0] * len(tokens)}
    return {"choices": [{"finish_reason": reason, "token_ids": list(tokens), "logprobs": logprobs}]}


def _rollout(answer: dict[str, Any]) -> Any:
    return completed_rollout(REQUEST, 1, answer, 5, 0.1, stops=Stops([1, 2]))


def test_no_default_of_a_models_generation_config_acts_in_vllm() -> None:
    protocol = pytest.importorskip("vllm.entrypoints.openai.completion.protocol", reason="vllm is not installed")
    body = completion_body(REQUEST, 1, model="m", stop_ids=[1, 2])
    request = protocol.CompletionRequest(**body)
    # Later versions may take more from there: all of them have to be said.
    assert set(request._DEFAULT_SAMPLING_PARAMS) <= set(body)
    asked = request.to_sampling_params(body["max_tokens"], dict(MODEL_DEFAULTS))
    assert (asked.temperature, asked.top_p, asked.top_k, asked.seed) == (0.7, 0.9, 20, 12)
    assert (asked.min_p, asked.repetition_penalty) == (0.05, 1)
    assert (asked.presence_penalty, asked.frequency_penalty) == (0, 0)
    assert (asked.n, asked.min_tokens, asked.max_tokens, asked.stop, asked.stop_token_ids) == (1, 0, 3, [], [1, 2])
    assert not getattr(asked, "watermarking", False)


def test_a_response_ends_with_a_stop_token_or_at_its_limit() -> None:
    stopped, limited = _rollout(_answer("stop", 7, 2)), _rollout(_answer("length", 7, 8, 9))
    assert (stopped.token_ids, stopped.finish_reason, stopped.index, stopped.weight_version) == ((7, 2), "stop", 1, 5)
    assert (limited.token_ids, limited.finish_reason) == ((7, 8, 9), "length")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_answer("length", 7, 8), r"after 2 tokens, of 3 allowed, by a rule of its own; .*--generation-config vllm"),
        (_answer("stop", 7, 8), r"at the tokens \[8\], which end no response \(those that do: \[1, 2\]\)"),
        (_answer("stop"), r"at the tokens \[\], which end no response"),
    ],
)
def test_a_response_that_the_server_ends_by_a_rule_of_its_own_is_refused(answer: dict[str, Any], said: str) -> None:
    with pytest.raises(RolloutError, match=f"problem 'p': the server ended a response {said}"):
        _rollout(answer)


def test_a_request_that_was_given_up_is_the_servers_failure() -> None:
    with pytest.raises(ServerError, match="ended as 'abort'"):
        _rollout(_answer("abort", 7))
