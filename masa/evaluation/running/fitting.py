"""Whether the model under evaluation has room for all prompts and responses, and embeddings for their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.running.settings import EvaluationSettings, benchmark_config
from masa.preflight import make_templates
from masa.problems.problem import Problem
from masa.rollout.engine import RolloutPath
from masa.rollout.requests import RequestBuilder
from masa.rollout.room import require_embeddings, require_room

_OPTIONS: dict[RolloutPath, str] = {"solution": "--max-tokens", "meta": "--max-meta-tokens"}


def require_evaluation_fits(
    settings: EvaluationSettings,
    problems: Mapping[str, Sequence[Problem]],
    tokenizer: Any,
    model_config: Any,
) -> int:
    """Check the prompts of ``problems``, by benchmark, as training checks its own; their longest, in tokens.

    No problem of a benchmark is left out for its length, so every prompt counts. ``model_config`` is None where it
    cannot be read from here; lengths and tokens are not checked then.

    Raises:
        ConfigError: a prompt and its response exceed the model's positions or ``rollout.max_model_len``, or a token
            has no embedding; the message names all numbers.
    """
    longest = 0
    for benchmark in settings.benchmarks:
        prompts = _prompts(settings, benchmark, problems.get(benchmark.name, ()), tokenizer)
        lengths = {path: max(map(len, own)) for path, own in prompts.items() if own}
        longest = max(longest, *lengths.values(), 0)
        if model_config is None:
            continue
        section = benchmark_config(settings, benchmark).rollout
        require_room(section, model_config, lengths, f"benchmark {benchmark.name}", options=_OPTIONS)
        require_embeddings(tokenizer, model_config, (ids for own in prompts.values() for ids in own))
    return longest


def _prompts(
    settings: EvaluationSettings, benchmark: Benchmark, problems: Sequence[Problem], tokenizer: Any
) -> dict[RolloutPath, list[tuple[int, ...]]]:
    config = benchmark_config(settings, benchmark)
    builder = RequestBuilder(config, make_templates(config), tokenizer)
    paths: list[RolloutPath] = ["solution", "meta"] if settings.budget.metas else ["solution"]
    return {path: [builder.prompt_ids(one, path) for one in problems] for path in paths}
