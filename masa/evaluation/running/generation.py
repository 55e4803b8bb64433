"""Generating the samples that are missing, chunk by chunk, each chunk on the disk before the next one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from masa.config import Config
from masa.config.schema import RolloutSection
from masa.evaluation.running.placing import sampling_device
from masa.evaluation.running.settings import Budget
from masa.evaluation.running.store import EvaluationStore, StoredSample
from masa.problems.chat import ChatFormat, describe_chat
from masa.problems.problem import Problem
from masa.problems.statements import statement_key
from masa.rollout.engine import Rollout, RolloutEngine, RolloutPath

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Seeds of samples derive from this word, so that they differ from any training step's.
SEED_NAME = "evaluate"


class Policy:
    """The model under evaluation: tokenizer and engine, loaded when they are first needed.

    Args:
        config: names the model and the engine.
        engine: in place of the one that ``config`` names; the caller closes it.
        tokenizer: its tokenizer, likewise.

    ``notes`` are lines that whoever evaluates should read, once the engine is there.
    """

    def __init__(
        self,
        config: Config,
        *,
        engine: RolloutEngine | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._tokenizer = tokenizer
        self._stack = ExitStack()
        # In tokens; engines make room for it. No problem of a benchmark is left out for its length.
        self.longest_prompt = 0
        self.notes: list[str] = []
        self._checked = False

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        if self._tokenizer is None:
            from masa.model.loading import load_tokenizer

            self._tokenizer = load_tokenizer(self._config.model)
        if not self._checked:
            self.notes += describe_chat(self._tokenizer, ChatFormat.of(self._config.prompts))
            self._checked = True
        return self._tokenizer

    def require_software(self, budget: Budget) -> None:
        """Raises:
        ConfigError: the model or its engine needs something that is not installed here.
        """
        if self._engine is None:
            from masa.software import require_software

            section = sampling_section(self._config.rollout, budget)
            require_software(self._config.model_copy(update={"rollout": section}))

    @property
    def model_config(self) -> Any:
        """The model's configuration, not its weights; None where it cannot be read, or an engine was handed in."""
        from masa.rollout.room import load_model_config

        return load_model_config(self._config.model) if self._engine is None else None

    def engine(self, budget: Budget) -> RolloutEngine:
        """The engine; the first call loads the model.

        The `transformers` engine samples from the model itself, on the GPU where there is one. vLLM is given its
        weights from the host's memory, and the model is dropped.
        """
        if self._engine is None:
            from masa.model.loading import load_policy
            from masa.model.stops import stop_tokens
            from masa.policy.forward.attention import settle_attention
            from masa.rollout.factory import choose_engine, make_engine

            model: Any = load_policy(self._config.model, sampling_device(self._config.rollout))
            if choose_engine(self._config.rollout) == "transformers":
                self.notes += [line for line in [settle_attention(model, self._config.model.attention)] if line]
            section = sampling_section(self._config.rollout, budget)
            stop_ids, lines = stop_tokens(model.generation_config, self.tokenizer, self._config)
            self.notes += lines
            self._engine = make_engine(
                section,
                model,
                stop_ids=stop_ids,
                max_prompt_tokens=max(self._config.prompts.max_tokens, self.longest_prompt),
                tokenizer=self.tokenizer,
            )
            self._stack.callback(self._engine.close)
        return self._engine

    def close(self) -> None:
        """Close an engine that was loaded here; safe to call twice."""
        self._stack.close()


def sampling_section(section: RolloutSection, budget: Budget) -> RolloutSection:
    """The engine's options in an evaluation: nothing learns beside it that it could run ahead of or sleep for."""
    limits = {
        "max_batch_size": budget.batch_size,
        "max_solution_tokens": budget.max_tokens,
        "max_meta_tokens": budget.max_meta_tokens,
        "async_steps": 0,
        "sleep_level": 0,
    }
    return section.model_copy(update=limits)


def sample_keys(problem: Problem, budget: Budget) -> list[tuple[str, RolloutPath, int]]:
    """The samples that a problem needs."""
    paths: tuple[tuple[RolloutPath, int], ...] = (("solution", budget.samples), ("meta", budget.metas))
    return [(problem.id, path, index) for path, count in paths for index in range(count)]


def missing_chunks(
    problems: Sequence[Problem], found: set[tuple[str, RolloutPath, int]], budget: Budget
) -> Iterator[list[Problem]]:
    """Runs of problems of which some sample is missing.

    The runs do not depend on what was found: a chunk is generated as a whole, so that a sample has the same neighbours
    in its batch whether or not the evaluation was interrupted.
    """
    size = max(1, budget.batch_size // (budget.samples + budget.metas))
    for start in range(0, len(problems), size):
        chunk = list(problems[start : start + size])
        if not all(key in found for problem in chunk for key in sample_keys(problem, budget)):
            yield chunk


def generate_missing(
    name: str,
    problems: Sequence[Problem],
    config: Config,
    budget: Budget,
    policy: Policy,
    store: EvaluationStore,
    *,
    report: Callable[[int], None] = lambda samples: None,
) -> None:
    """Generate and store what the samples of one benchmark lack; ``report`` is told how many more there are.

    Samples that are there already stay as they are, also when their chunk is generated once more.
    """
    found = set(store.read_samples(name, problems))
    report(len(found))
    for chunk in missing_chunks(problems, found, budget):
        samples = [sample for sample in _generate(chunk, config, budget, policy) if sample.key not in found]
        store.append_samples(name, samples)
        report(len(samples))


def _generate(problems: Sequence[Problem], config: Config, budget: Budget, policy: Policy) -> list[StoredSample]:
    from masa.preflight import make_templates
    from masa.rollout.requests import RequestBuilder

    builder = RequestBuilder(config, make_templates(config), policy.tokenizer)
    requests = builder.requests(
        problems,
        step=SEED_NAME,
        num_solutions=budget.samples,
        num_metas=budget.metas,
        sampling=budget.sampling,
    )
    statements = {problem.id: statement_key(problem.statement) for problem in problems}
    return [
        _stored(rollout, statements[rollout.problem_id], text)
        for group in policy.engine(budget).generate(requests)
        for rollout, text in zip(group, _texts(group, policy.tokenizer), strict=True)
    ]


def _texts(rollouts: Sequence[Rollout], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    ids = [list(rollout.token_ids) for rollout in rollouts]
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))


def _stored(rollout: Rollout, statement: str, text: str) -> StoredSample:
    return StoredSample(
        problem=rollout.problem_id,
        statement=statement,
        path=rollout.path,
        index=rollout.index,
        response=text,
        tokens=len(rollout.token_ids),
        finish_reason=rollout.finish_reason,
    )
