"""What can be asked of a policy outside of training: meta-predictions, solutions, and a held-out evaluation."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from masa.config import Config
from masa.evaluation.held_out import evaluate_held_out, record_held_out
from masa.model.loading import load_policy
from masa.model.stops import stop_tokens
from masa.policy.forward.attention import settle_attention
from masa.preflight import Prepared, problems_of_rows
from masa.problems import Problem
from masa.problems.tables import is_table
from masa.rewards import VerifierPool
from masa.rewards.failures import require_working_verifier
from masa.rewards.grading import Grader
from masa.rewards.own_parts import Verifier
from masa.rollout.engine import RolloutEngine, Sampling
from masa.rollout.factory import make_engine
from masa.rollout.requests import RequestBuilder
from masa.tracking.metrics import StepMetrics

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel

Asked = str | Problem | Mapping[str, Any]
# Seeds derive from this word, so that samples differ from those of any training step.
_SEED_NAME = "asked"


@dataclass(frozen=True)
class Answering:
    """A policy that samples: its engine, the prompts of the configuration, and who judges its answers."""

    config: Config
    engine: RolloutEngine
    builder: RequestBuilder
    grader: Grader

    def evaluate(self, problems: Sequence[Problem], **changes: Any) -> dict[str, float]:
        """The metrics of `Callback.on_evaluate`; ``changes`` take the place of options of ``evaluation``."""
        config = self.config.replace({f"evaluation.{name}": value for name, value in changes.items()})
        groups = evaluate_held_out(config, problems, self.builder, self.engine, self.grader)
        require_working_verifier(groups, "the evaluation")
        metrics = StepMetrics()
        record_held_out(metrics, groups)
        self.engine.statistics()  # what it counted belongs to no step
        return metrics.flatten()

    def predict(self, asked: Asked | Sequence[Asked], num_metas: int, temperature: float | None) -> pandas.DataFrame:
        """One row a meta-prediction; what could not be read in it is missing."""
        import pandas

        problems, _ = _problems(self.config, asked)
        rows = [
            {
                "problem": problem.id,
                "index": rollout.index,
                "parsed": prediction.parsed,
                "pass_rate": prediction.pass_rate,
                "length": prediction.length,
                "notions": None if prediction.notions is None else list(prediction.notions),
                "response": text,
                "tokens": len(rollout.token_ids),
                "finish_reason": rollout.finish_reason,
            }
            for problem, group in self._sample(problems, 0, num_metas, temperature)
            for rollout, text in zip(group, self.grader.texts(group), strict=True)
            for prediction in [self.grader.parse(text)]
        ]
        frame = pandas.DataFrame(rows)
        return frame.astype({"pass_rate": "float64", "length": "Int64"})

    def solve(self, asked: Asked | Sequence[Asked], num_solutions: int, temperature: float | None) -> pandas.DataFrame:
        """One row a solution, with its verdict where the problem has an answer."""
        import pandas

        problems, answered = _problems(self.config, asked)
        rows = []
        for problem, group in self._sample(problems, num_solutions, 0, temperature):
            texts = self.grader.texts(group)
            verdicts = self.grader.judge(problem, texts) if answered else []
            for number, (rollout, text) in enumerate(zip(group, texts, strict=True)):
                row = {"problem": problem.id, "index": rollout.index, "response": text}
                if answered:
                    row |= {"correct": verdicts[number].correct, "status": verdicts[number].status}
                rows.append(row | {"tokens": len(rollout.token_ids), "finish_reason": rollout.finish_reason})
        return pandas.DataFrame(rows)

    def _sample(
        self, problems: Sequence[Problem], solutions: int, metas: int, temperature: float | None
    ) -> list[tuple[Problem, Any]]:
        rollout = self.config.rollout
        sampling = None if temperature is None else Sampling(temperature, rollout.top_p, rollout.top_k, rollout.min_p)
        requests = self.builder.requests(
            problems, step=_SEED_NAME, num_solutions=solutions, num_metas=metas, sampling=sampling
        )
        groups = self.engine.generate(requests)
        self.engine.statistics()
        return list(zip(problems, groups, strict=True))


class IdlePolicy:
    """The policy while no run is open, loaded and given an engine when it is first asked; ``given`` is a model of the
    user's own, in place of the one that ``config`` names."""

    def __init__(
        self, config: Config, prepared: Prepared, given: PreTrainedModel | None, verifier: Verifier | None
    ) -> None:
        self._config = config
        self._prepared = prepared
        self._given = given
        self._verifier = verifier
        self._loaded: PreTrainedModel | None = None
        self._answering: Answering | None = None
        self._stack = ExitStack()

    @property
    def model(self) -> PreTrainedModel:
        """The policy before training."""
        if self._given is not None:
            return self._given
        if self._loaded is None:
            on_gpu = torch.cuda.is_available()
            self._loaded = load_policy(self._config.model, torch.device("cuda" if on_gpu else "cpu"))
        return self._loaded

    def answering(self, trained: PreTrainedModel | None) -> Answering:
        """Whoever answers for ``trained``, the policy after a run, or for the policy before training."""
        if self._answering is None:
            opened = open_answering(self._config, self._prepared.builder, trained or self.model, self._verifier)
            self._answering = self._stack.enter_context(opened)
            weakref.finalize(self, self._stack.close)
        return self._answering

    def close(self) -> None:
        """End the engine and forget a model that was loaded here; safe to call twice."""
        self._stack.close()
        self._answering = self._loaded = None


@contextmanager
def open_answering(
    config: Config, builder: RequestBuilder, model: PreTrainedModel, verifier: Verifier | None = None
) -> Iterator[Answering]:
    """An engine for ``model``, and workers that verify where no ``verifier`` is handed in; no run is at work."""
    settle_attention(model, config.model.attention)
    rollout = config.rollout.model_copy(update={"async_steps": 0, "sleep_level": 0})
    stop_ids, _ = stop_tokens(model.generation_config, builder.tokenizer, config)
    engine = make_engine(
        rollout,
        model,
        stop_ids=stop_ids,
        max_prompt_tokens=config.prompts.max_tokens,
        max_response_tokens=config.longest_response,
        tokenizer=builder.tokenizer,
    )
    with ExitStack() as stack:
        stack.callback(engine.close)
        if verifier is None:
            verifier = stack.enter_context(VerifierPool.of(config.rewards))
        yield Answering(config, engine, builder, Grader(config, builder.tokenizer, verifier))


def _problems(config: Config, asked: Asked | Sequence[Asked]) -> tuple[list[Problem], bool]:
    """The problems, and whether they have answers; a text is a problem without one.

    Raises:
        TypeError: something that is neither a text, a `Problem` nor a mapping, or some of each.
        ValueError: no problems.
        ProblemDataError: a mapping that is no problem.
    """
    if is_table(asked):
        return problems_of_rows(config, asked), True
    listed: list[Any] = [asked] if isinstance(asked, (str, Problem, Mapping)) else list(asked)
    if not listed:
        raise ValueError("problems: found none, at least one is needed")
    kinds = {kind for kind in (str, Problem, Mapping) for one in listed if isinstance(one, kind)}
    known = [one for one in listed if isinstance(one, (str, Problem, Mapping))]
    if len(known) < len(listed) or len(kinds) > 1:
        found = ", ".join(sorted({type(one).__name__ for one in listed}))
        raise TypeError(f"problems: found {found}; allowed: texts, masa.Problem objects or mappings, all of one kind")
    if kinds == {str}:
        return [Problem(f"problem-{number}", text, "") for number, text in enumerate(listed, start=1)], False
    return problems_of_rows(config, listed), True
