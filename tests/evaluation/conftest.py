"""A policy that answers what a test says, with the embedded tokenizer and no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from masa.config import load_config
from masa.evaluation.running.generation import Policy
from masa.rollout.engine import Rollout, RolloutRequest

Answer = Callable[[RolloutRequest, int], str]


class ScriptedEngine:
    """An engine whose responses are written by a function of the request and the sample's index."""

    def __init__(self, answer: Answer, tokenizer: Any) -> None:
        self._answer = answer
        self._tokenizer = tokenizer
        self.requests: list[RolloutRequest] = []
        self.fail_after: int | None = None

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        if self.fail_after is not None and len(self.requests) >= self.fail_after:
            raise KeyboardInterrupt
        self.requests += requests
        return [[self._rollout(request, index) for index in range(len(request.seeds))] for request in requests]

    def update_weights(self, weights: Iterable[Any], version: int) -> None:
        raise AssertionError("an evaluation does not train")

    def close(self) -> None:
        raise AssertionError("the engine belongs to the test")

    def _rollout(self, request: RolloutRequest, index: int) -> Rollout:
        ids = tuple(self._tokenizer(self._answer(request, index), add_special_tokens=False)["input_ids"]) or (0,)
        cut = ids[: request.max_new_tokens]
        return Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=index,
            prompt_ids=request.prompt_ids,
            token_ids=cut,
            logprobs=(0.0,) * len(cut),
            finish_reason="stop" if len(cut) == len(ids) else "length",
            weight_version=0,
            seconds=0.0,
        )


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from masa.embedded import load_embedded_tokenizer

    return load_embedded_tokenizer()


@pytest.fixture
def scripted(tokenizer: Any) -> Callable[[Answer], tuple[Policy, ScriptedEngine]]:
    """Makes a policy, and its engine, out of a function that writes responses."""

    def make(answer: Answer) -> tuple[Policy, ScriptedEngine]:
        engine = ScriptedEngine(answer, tokenizer)
        return Policy(load_config(), engine=engine, tokenizer=tokenizer), engine

    return make
