"""What the long world's policy is like, by sampling it: ``python -m masa.embedded.long.measure MODEL``.

Pass rates, lengths and first orders without a hint and with one, and metas, as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from masa.embedded.long.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.embedded.long.world import KINDS, ORDERS, SIZES
from masa.embedded.measure import boxed_answer
from masa.problems.problem import Problem
from masa.problems.prompts import PromptTemplates
from masa.problems.seeds import derive_seed
from masa.rewards.meta_prediction import parse_meta_prediction
from masa.rollout.engine import Rollout, RolloutEngine, RolloutRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.config.schema import ModelSection

MAX_SOLUTION_TOKENS = 240
MAX_META_TOKENS = 32
HINTS = ("none", "right", "wrong")


@dataclass(frozen=True)
class SampledProblem:
    """One problem's solutions: which are right, their lengths in tokens, and which orders their texts name first."""

    problem: Problem
    correct: tuple[bool, ...]
    lengths: tuple[int, ...]
    orders: tuple[str, ...]

    @property
    def pass_rate(self) -> float:
        return fmean(self.correct)


class Sampler:
    """Draws solutions and metas at temperature 1 as a run would, from an engine and its tokenizer."""

    def __init__(self, engine: RolloutEngine, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._seed = seed
        self._templates = PromptTemplates(SOLUTION_TEMPLATE, META_TEMPLATE, response_limit=MAX_SOLUTION_TOKENS)

    def solutions(self, problems: Sequence[Problem], count: int, hint: str = "none") -> list[SampledProblem]:
        """``count`` solutions of each problem; ``hint``: ``none``, the ``right`` order's name, or a ``wrong`` one's."""
        prompts = [self._templates.render_solution(problem, hint=_hint(problem, hint)) for problem in problems]
        rollouts = self._rollouts(problems, prompts, "solution", count, MAX_SOLUTION_TOKENS)
        return [self._sampled(problem, group) for problem, group in zip(problems, rollouts, strict=True)]

    def metas(self, problems: Sequence[Problem], count: int) -> list[tuple[int, bool]]:
        """Tokens of each meta, and whether all three predictions can be read from it."""
        prompts = [self._templates.render_meta(problem) for problem in problems]
        rollouts = self._rollouts(problems, prompts, "meta", count, MAX_META_TOKENS)
        flat = [rollout for group in rollouts for rollout in group]
        return [(len(one.token_ids), parse_meta_prediction(self._text(one)).complete) for one in flat]

    def _rollouts(
        self, problems: Sequence[Problem], prompts: Sequence[str], path: Any, count: int, limit: int
    ) -> list[list[Rollout]]:
        requests = []
        for problem, prompt in zip(problems, prompts, strict=True):
            message = [{"role": "user", "content": prompt}]
            ids: Any = self._tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
            seeds = tuple(derive_seed(self._seed, "measure", problem.id, path, i) for i in range(count))
            requests.append(RolloutRequest(problem.id, path, tuple(ids), seeds, limit))
        return self._engine.generate(requests)

    def _sampled(self, problem: Problem, rollouts: Sequence[Rollout]) -> SampledProblem:
        texts = [self._text(one) for one in rollouts]
        return SampledProblem(
            problem,
            tuple(boxed_answer(text) == problem.answer for text in texts),
            tuple(len(one.token_ids) for one in rollouts),
            tuple(_first_order(text) for text in texts),
        )

    def _text(self, rollout: Rollout) -> str:
        return str(self._tokenizer.decode(list(rollout.token_ids), skip_special_tokens=True))


def open_sampler(section: ModelSection, tokenizer_of: ModelSection | None = None) -> tuple[Sampler, PreTrainedModel]:
    """A sampler of the policy that ``section`` names, and the policy; its tokenizer may be that of another section."""
    from masa.model.loading import load_policy, load_tokenizer
    from masa.rollout.transformers.engine import TransformersEngine

    policy, tokenizer = load_policy(section), load_tokenizer(tokenizer_of or section)
    stop: Any = tokenizer.eos_token_id
    return Sampler(TransformersEngine(policy, stop_ids=[stop], max_batch_size=512), tokenizer), policy


def summarize(sampled: Sequence[SampledProblem]) -> dict[str, Any]:
    """Rates and shares out of 1, lengths in tokens, the end token included."""
    right = [n for one in sampled for n, ok in zip(one.lengths, one.correct, strict=True) if ok]
    wrong = [n for one in sampled for n, ok in zip(one.lengths, one.correct, strict=True) if not ok]
    everything = sorted(right + wrong)
    return {
        "problems": len(sampled),
        "solutions_per_problem": len(sampled[0].correct),
        "pass_at_1": _mean(one.pass_rate for one in sampled),
        "solved_all": _mean(one.pass_rate == 1 for one in sampled),
        "solved_none": _mean(one.pass_rate == 0 for one in sampled),
        "length": _mean(everything),
        "length_percentiles": {
            str(p): everything[min(len(everything) - 1, len(everything) * p // 100)] for p in (1, 50, 90, 99)
        },
        "length_correct": _mean(right),
        "length_wrong": _mean(wrong),
        "wrong_over_correct_length": _same_problem_ratio(sampled),
        "wrong_beyond_twice_usual": _beyond_twice(sampled),
        "truncated": _mean(n >= MAX_SOLUTION_TOKENS for n in everything),
        "right_order_first": _mean(
            order == KINDS[one.problem.metadata["kind"]] for one in sampled for order in one.orders
        ),
        "kinds": _by(sampled, "kind", KINDS),
        "sizes": _by(sampled, "size", [size.name for size in SIZES]),
    }


def _same_problem_ratio(sampled: Sequence[SampledProblem]) -> float:
    """Mean wrong over mean correct length of the same problem, averaged over the problems that have both."""
    ratios = []
    for one in sampled:
        right = [n for n, ok in zip(one.lengths, one.correct, strict=True) if ok]
        wrong = [n for n, ok in zip(one.lengths, one.correct, strict=True) if not ok]
        if right and wrong:
            ratios.append(fmean(wrong) / fmean(right))
    return _mean(ratios)


def _beyond_twice(sampled: Sequence[SampledProblem]) -> float:
    """Share of the wrong solutions that are longer than twice the mean correct solution of their problem."""
    longer = []
    for one in sampled:
        right = [n for n, ok in zip(one.lengths, one.correct, strict=True) if ok]
        if right:
            usual = fmean(right)
            longer += [n > 2 * usual for n, ok in zip(one.lengths, one.correct, strict=True) if not ok]
    return _mean(longer)


def _by(sampled: Sequence[SampledProblem], key: str, names: Iterable[str]) -> Mapping[str, dict[str, float]]:
    found = {}
    for name in names:
        part = [one for one in sampled if one.problem.metadata[key] == name]
        found[name] = {
            "problems": len(part),
            "pass_at_1": _mean(one.pass_rate for one in part),
            "solved_all": _mean(one.pass_rate == 1 for one in part),
            "solved_none": _mean(one.pass_rate == 0 for one in part),
            "length": _mean(n for one in part for n in one.lengths),
        }
    return found


def _hint(problem: Problem, hint: str) -> str | None:
    if hint == "none":
        return None
    right = KINDS[problem.metadata["kind"]]
    return right if hint == "right" else next(order for order in ORDERS if order != right)


def _first_order(text: str) -> str:
    """The order that a solution names first; empty where it names none."""
    found = {order: text.find(order) for order in ORDERS if order in text}
    return min(found, key=lambda order: found[order]) if found else ""


def _mean(values: Iterable[float]) -> float:
    numbers = [float(value) for value in values]
    return round(fmean(numbers), 4) if numbers else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m masa.embedded.long.measure", description=__doc__)
    parser.add_argument("model", help="embedded:long, or a folder with a policy of that world")
    parser.add_argument("--problems", type=int, default=128, help="held-out problems (default: 128)")
    options = parser.parse_args(arguments)
    from masa.config.schema import ModelSection
    from masa.embedded.long.problems import long_problems

    sampler, _ = open_sampler(ModelSection(path=options.model))
    problems = long_problems("test", options.problems)
    metas = sampler.metas(problems, 4)
    found: dict[str, Any] = {"solutions": summarize(sampler.solutions(problems, 16))}
    for hint in HINTS[1:]:
        found[f"{hint}_hint"] = summarize(sampler.solutions(problems, 4, hint))
    found["meta_tokens"] = _mean(tokens for tokens, _ in metas)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
