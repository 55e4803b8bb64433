"""The embedded world's properties as a policy shows them: sampled, verified and counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.embedded.solutions import METHODS
from masa.embedded.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.problems.problem import Problem
from masa.problems.seeds import derive_seed
from masa.rewards.alignment import MetaReward, SolutionGroup, score_metas
from masa.rewards.meta_prediction import MetaPrediction, parse_meta_prediction
from masa.rollout.engine import Rollout, RolloutEngine, RolloutPath, RolloutRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SOLUTION_TOKENS = 160
MAX_META_TOKENS = 64
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


@dataclass(frozen=True)
class MeasuredProblem:
    """One problem's solutions (text, tokens, correct, in parallel) and its metas with their rewards."""

    problem: Problem
    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    correct: tuple[bool, ...]
    truncated: tuple[bool, ...]
    predictions: tuple[MetaPrediction, ...]
    rewards: tuple[MetaReward, ...]

    @property
    def pass_rate(self) -> float:
        return sum(self.correct) / len(self.correct)

    def lengths_where(self, correct: bool) -> list[int]:
        return [n for n, right in zip(self.lengths, self.correct, strict=True) if right is correct]


def boxed_answer(text: str) -> str | None:
    """The content of the last ``\\boxed{...}``, or None."""
    found = _BOXED.findall(text)
    return found[-1].strip() if found else None


def sample_problems(
    problems: Sequence[Problem],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_solutions: int = 16,
    num_metas: int = 8,
    seed: int = 0,
) -> list[MeasuredProblem]:
    """Both paths of every problem at temperature 1, verified and scored."""
    solutions = engine.generate([_request(p, "solution", num_solutions, tokenizer, seed) for p in problems])
    metas = engine.generate([_request(p, "meta", num_metas, tokenizer, seed) for p in problems])
    return [_measured(p, s, m, tokenizer) for p, s, m in zip(problems, solutions, metas, strict=True)]


def summarize(measured: Sequence[MeasuredProblem]) -> dict[str, Any]:
    """The properties that the documentation states; rates and shares in [0, 1], lengths in tokens."""
    rates = [m.pass_rate for m in measured]
    mixed = [m for m in measured if 0 < m.pass_rate < 1]
    solved = [m for m in measured if m.pass_rate > 0]
    return {
        "problems": len(measured),
        "solutions_per_problem": len(measured[0].texts),
        "metas_per_problem": len(measured[0].predictions),
        "pass_at_1": _mean(rates),
        "share_trivial": _mean(rate == 1 for rate in rates),
        "share_out_of_reach": _mean(rate == 0 for rate in rates),
        "pass_rate_histogram": _histogram(rates),
        "length_correct": _mean(n for m in measured for n in m.lengths_where(True)),
        "length_wrong": _mean(n for m in measured for n in m.lengths_where(False)),
        "length_wrong_minus_correct_same_problem": _mean(
            _mean(m.lengths_where(False)) - _mean(m.lengths_where(True)) for m in mixed
        ),
        "length_correct_span": _mean(
            (max(m.lengths_where(True)) - min(m.lengths_where(True))) / _mean(m.lengths_where(True)) for m in solved
        ),
        "share_truncated": _mean(t for m in measured for t in m.truncated),
        "methods": {method.name: _method(method.name, measured) for method in METHODS},
        "levels": {
            name: _level([m for m in measured if m.problem.metadata["level"] == name])
            for name in dict.fromkeys(m.problem.metadata["level"] for m in measured)
        },
        "metas_complete": _mean(p.complete for m in measured for p in m.predictions),
        "r_length": _mean(r.length for m in measured for r in m.rewards),
        "r_difficulty": _mean(r.difficulty for m in measured for r in m.rewards),
        "r_notion": _mean(r.notion for m in measured for r in m.rewards),
    }


def _request(
    problem: Problem, path: RolloutPath, count: int, tokenizer: PreTrainedTokenizerBase, seed: int
) -> RolloutRequest:
    template = SOLUTION_TEMPLATE if path == "solution" else META_TEMPLATE
    message = [{"role": "user", "content": template.replace("{{ problem }}", problem.statement)}]
    prompt_ids: Any = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    return RolloutRequest(
        problem_id=problem.id,
        path=path,
        prompt_ids=tuple(prompt_ids),
        seeds=tuple(derive_seed(seed, "measure", problem.id, path, i) for i in range(count)),
        max_new_tokens=MAX_SOLUTION_TOKENS if path == "solution" else MAX_META_TOKENS,
    )


def _measured(
    problem: Problem, solutions: Sequence[Rollout], metas: Sequence[Rollout], tokenizer: PreTrainedTokenizerBase
) -> MeasuredProblem:
    texts = _texts(solutions, tokenizer)
    correct = tuple(boxed_answer(text) == problem.answer for text in texts)
    lengths = tuple(len(rollout.token_ids) for rollout in solutions)
    group = SolutionGroup(
        pass_rate=sum(correct) / len(correct),
        correct_lengths=[n for n, right in zip(lengths, correct, strict=True) if right],
        correct_texts=[text for text, right in zip(texts, correct, strict=True) if right],
        incorrect_texts=[text for text, right in zip(texts, correct, strict=True) if not right],
        problem_text=problem.statement,
    )
    predictions = tuple(parse_meta_prediction(text) for text in _texts(metas, tokenizer))
    truncated = tuple(rollout.truncated for rollout in solutions)
    rewards = tuple(score_metas(predictions, group))
    return MeasuredProblem(problem, texts, lengths, correct, truncated, predictions, rewards)


def _texts(rollouts: Sequence[Rollout], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    ids = [list(rollout.token_ids) for rollout in rollouts]
    return tuple(tokenizer.batch_decode(ids, skip_special_tokens=True))


def _method(name: str, measured: Sequence[MeasuredProblem]) -> dict[str, float]:
    used = [
        (right, length)
        for m in measured
        for text, right, length in zip(m.texts, m.correct, m.lengths, strict=True)
        if name in text
    ]
    total = sum(len(m.texts) for m in measured)
    return {
        "share": len(used) / total,
        "success": _mean(right for right, _ in used),
        "length": _mean(length for _, length in used),
    }


def _level(measured: Sequence[MeasuredProblem]) -> dict[str, float]:
    return {
        "problems": len(measured),
        "pass_at_1": _mean(m.pass_rate for m in measured),
        "length": _mean(n for m in measured for n in m.lengths),
    }


def _histogram(rates: Sequence[float]) -> dict[str, float]:
    """Shares of problems: no solution right, three bands between, all right."""
    bands = {
        "0": lambda r: r == 0,
        "(0, 1/3]": lambda r: 0 < r <= 1 / 3,
        "(1/3, 2/3]": lambda r: 1 / 3 < r <= 2 / 3,
        "(2/3, 1)": lambda r: 2 / 3 < r < 1,
        "1": lambda r: r == 1,
    }
    return {name: _mean(inside(rate) for rate in rates) for name, inside in bands.items()}


def _mean(values: Iterable[float]) -> float:
    """The mean, rounded to four places; 0 of nothing."""
    numbers = [float(v) for v in values]
    return round(sum(numbers) / len(numbers), 4) if numbers else 0.0
