"""From stored samples to outcomes: verify the solutions, read the metas, reward them. Nothing is generated here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from masa.evaluation.measures.outcomes import Outcome, make_outcome
from masa.evaluation.running.store import StoredSample
from masa.problems.problem import Problem
from masa.rewards.alignment import MetaWeights, SolutionGroup, score_metas
from masa.rewards.grading import verifier_item
from masa.rewards.meta_prediction import MetaKeys, parse_meta_prediction
from masa.rewards.own_parts import verified

if TYPE_CHECKING:
    from masa.config import Config
    from masa.rewards.own_parts import Verifier
    from masa.rewards.verdict import Verdict

# Responses sent to the verifier at a time; bounds what is held in memory twice.
_ITEMS_AT_ONCE = 4096


def score(
    problems: Sequence[Problem],
    solutions: Sequence[Sequence[StoredSample]],
    metas: Sequence[Sequence[StoredSample]],
    verifier: Verifier,
    config: Config,
    *,
    max_length: int,
) -> tuple[list[Outcome], list[list[Verdict]]]:
    """Outcome and verdicts of each problem; ``solutions`` and ``metas`` hold the samples of each, in their order.

    ``max_length`` is the response limit that the meta prompt spoke of, in tokens.
    """
    items = [
        verifier_item(problem, sample.response)
        for problem, group in zip(problems, solutions, strict=True)
        for sample in group
    ]
    found: list[Verdict] = []
    for start in range(0, len(items), _ITEMS_AT_ONCE):
        found += verified(verifier, items[start : start + _ITEMS_AT_ONCE])
    remaining = iter(found)
    outcomes, verdicts = [], []
    for problem, group, group_metas in zip(problems, solutions, metas, strict=True):
        own = [next(remaining) for _ in group]
        verdicts.append(own)
        outcomes.append(_outcome(problem, group, own, group_metas, config, max_length))
    return outcomes, verdicts


def _outcome(
    problem: Problem,
    solutions: Sequence[StoredSample],
    verdicts: Sequence[Verdict],
    metas: Sequence[StoredSample],
    config: Config,
    max_length: int,
) -> Outcome:
    correct = [verdict.correct for verdict in verdicts]
    statistics = SolutionGroup(
        pass_rate=sum(correct) / len(correct),
        correct_lengths=tuple(one.tokens for one, right in zip(solutions, correct, strict=True) if right),
        correct_texts=tuple(one.response for one, right in zip(solutions, correct, strict=True) if right),
        incorrect_texts=tuple(one.response for one, right in zip(solutions, correct, strict=True) if not right),
        problem_text=problem.statement,
    )
    predictions = [
        parse_meta_prediction(
            meta.response,
            keys=_keys(config.prompts.meta_keys.model_dump()),
            pass_rate_total=config.prompts.pass_rate_total,
            max_length=max_length,
        )
        for meta in metas
    ]
    weights = config.rewards.meta_weights
    rewards = score_metas(
        predictions,
        statistics,
        MetaWeights(weights.length, weights.difficulty, weights.notion),
        base=config.rewards.difficulty_base,
        count=config.rewards.notion_count,
        match=config.rewards.notion_match,
    )
    return make_outcome(
        problem,
        verdicts,
        lengths=[sample.tokens for sample in solutions],
        truncated=[sample.finish_reason == "length" for sample in solutions],
        predictions=predictions,
        rewards=rewards,
        match=config.rewards.notion_match,
    )


def _keys(named: Mapping[str, str]) -> MetaKeys:
    known = MetaKeys()
    return MetaKeys(
        (named["notions"], *known.notions),
        (named["pass_rate"], *known.pass_rate),
        (named["solution_length"], *known.length),
    )
