"""Held-out solutions have a response limit of their own, and room for it."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from transformers import Qwen3Config

from masa.config import Config, ConfigError, load_config
from masa.evaluation.held_out import evaluate_held_out
from masa.planning.tokens import evaluation_tokens
from masa.preflight import prepare, require_model_fits
from masa.rollout.engine import RolloutRequest
from masa.rollout.factory import model_length
from masa.rollout.requests import RequestBuilder


class _StopError(Exception):
    """Raised where sampling would begin."""


class _Recording:
    def __init__(self) -> None:
        self.requests: list[RolloutRequest] = []

    def generate(self, requests: list[RolloutRequest]) -> list:
        self.requests = requests
        raise _StopError


def _config(*overrides: str) -> Config:
    return load_config("configs/quickstart.yaml", [*overrides])


def _limits(*overrides: str) -> dict[str, set[int]]:
    config, engine = _config(*overrides), _Recording()
    prepared, grader = prepare(config), Mock()
    grader.sampled = lambda engine, problems, requests: engine.generate(requests)
    with pytest.raises(_StopError):
        evaluate_held_out(config, prepared.evaluation[:3], prepared.builder, engine, grader)  # type: ignore[arg-type]
    limits: dict[str, set[int]] = {}
    for request in engine.requests:
        limits.setdefault(request.path, set()).add(request.max_new_tokens)
    return limits


def test_held_out_solutions_have_the_limit_of_training_unless_told_otherwise() -> None:
    assert _limits() == {"solution": {192}, "meta": {96}}
    assert _limits("evaluation.max_solution_tokens=300") == {"solution": {300}, "meta": {96}}


def test_training_keeps_its_own_limit() -> None:
    config = _config("evaluation.max_solution_tokens=300")
    prepared = prepare(config)
    builder: RequestBuilder = prepared.builder
    requests = builder.requests(prepared.train[:1], step=1, num_solutions=2, num_metas=2)
    assert [one.max_new_tokens for one in requests] == [192, 96]


def test_an_evaluation_without_room_is_refused_before_the_model_is_loaded() -> None:
    config = _config("evaluation.max_solution_tokens=4000")
    prepared = prepare(_config())
    with pytest.raises(ConfigError, match=r"evaluation\.max_solution_tokens: found 4000, allowed: at most \d+"):
        require_model_fits(config, prepared.builder, prepared.train, Qwen3Config(max_position_embeddings=512))


def test_engines_and_plans_count_with_the_limit() -> None:
    config = _config("evaluation.max_solution_tokens=4000")

    class Model:
        pass

    model = Model()
    model.config = Qwen3Config(max_position_embeddings=100_000)  # type: ignore[attr-defined]
    assert model_length(config.rollout, model, 64, config.longest_response) == 64 + 4000 + 512  # type: ignore[arg-type]
    section = config.evaluation
    expected = 10 * (section.num_samples * 4000 + section.num_metas * 96)
    assert evaluation_tokens(config, 10, 64)[0] == expected
    assert _config("evaluation.max_solution_tokens=4000", "problems.eval=null").longest_response == 192
