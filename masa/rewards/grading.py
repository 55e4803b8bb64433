"""From rollouts to rewards: verify the solutions of each problem, then let their statistics reward its metas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from masa.config import Config
from masa.problems import Problem
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.calling import FunctionReward, Response, RewardFunctions
from masa.rewards.early import Early, EarlyVerdicts
from masa.rewards.meta_prediction import MetaKeys, MetaPrediction, parse_meta_prediction
from masa.rewards.meta_rewards import reward_metas
from masa.rewards.notions import NotionMatch
from masa.rewards.overlong import overlong_punishment
from masa.rewards.own_parts import Verifier, verified
from masa.rewards.verdict import Verdict
from masa.rollout.engine import Rollout, RolloutEngine, RolloutRequest
from masa.rollout.moving import left_at

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ELSEWHERE = "(a text that only the process which sampled it has)"


@dataclass(frozen=True)
class GradedGroup:
    """Everything known of one problem after its rollouts were judged.

    ``verdicts`` and ``solution_rewards`` go with ``solutions``, ``predictions`` and ``meta_rewards`` with ``metas``.
    A solution's reward is its correctness, 1 or 0 (or between, where a user's own verifier gives a part of the score),
    plus what reward functions give times their weights, plus the overlong punishment. Pass rates count what is wholly
    correct. ``function_rewards`` has what each reward function that was called said of each solution, ``notion_match``
    says which notions were the same to r_notion.

    ``process`` is the process that has the group, None for this one. Of another process's group everything is known
    but tokens, log-probs and texts: in the place of a text stands `ELSEWHERE`.
    """

    problem: Problem
    solutions: tuple[Rollout, ...]
    solution_texts: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    solution_rewards: tuple[float, ...]
    statistics: SolutionGroup
    metas: tuple[Rollout, ...] = ()
    meta_texts: tuple[str, ...] = ()
    predictions: tuple[MetaPrediction, ...] = ()
    meta_rewards: tuple[MetaReward, ...] = ()
    notion_match: NotionMatch = "form"
    function_rewards: Mapping[str, tuple[FunctionReward, ...]] = field(default_factory=dict)
    process: int | None = None

    def left_at(self, process: int) -> GradedGroup:
        """What other processes know of a group of ``process``."""
        return replace(
            self,
            process=process,
            solutions=tuple(left_at(one, process) for one in self.solutions),
            metas=tuple(left_at(one, process) for one in self.metas),
            solution_texts=(ELSEWHERE,) * len(self.solution_texts),
            meta_texts=(ELSEWHERE,) * len(self.meta_texts),
            statistics=replace(self.statistics, correct_texts=(), incorrect_texts=()),
        )


def is_informative(group: GradedGroup) -> bool:
    """Whether the rewards that the solutions are trained by differ."""
    return len(set(group.solution_rewards)) > 1


class Grader:
    """Turns rollouts into graded groups.

    Args:
        verifier: judges answers.
        functions: reward functions of the user's own.
        early: have solutions verified when they end, while others are still being sampled; the verifier must bear to be
            asked from another thread, and to be asked often.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: PreTrainedTokenizerBase,
        verifier: Verifier,
        functions: RewardFunctions | None = None,
        *,
        early: bool = False,
    ) -> None:
        keys = config.prompts.meta_keys
        known = MetaKeys()
        self.keys = MetaKeys(
            (keys.notions, *known.notions), (keys.pass_rate, *known.pass_rate), (keys.solution_length, *known.length)
        )
        self._config = config
        self._tokenizer = tokenizer
        self._verifier = verifier
        self._functions = functions
        self._punished = config.algorithm.overlong.punish_tokens
        self._verifies_early = early
        self._early: EarlyVerdicts | None = None
        self._hidden_seconds = 0.0

    def sampled(
        self, engine: RolloutEngine, problems: Sequence[Problem], requests: Sequence[RolloutRequest]
    ) -> list[list[Rollout]]:
        """What ``engine`` makes of ``requests``; solutions that end are verified while it samples the others.

        `grade` takes the verdicts over. It is to come before the next call.
        """
        if not self._verifies_early or not any(request.path == "solution" for request in requests):
            return engine.generate(requests)
        self._early = early = self.open_early()
        by_id = {problem.id: problem for problem in problems}
        try:
            return engine.generate(requests, lambda request, one: self.ended(early, by_id, request, one))
        finally:
            self.close_early(early)

    def open_early(self) -> EarlyVerdicts | None:
        """Verdicts on solutions as they end; None where they are verified when they are graded. To be closed."""
        if not self._verifies_early:
            return None
        return EarlyVerdicts(partial(verified, self._verifier), self._config.rewards.verifier_workers)

    def ended(
        self,
        early: EarlyVerdicts | None,
        problems: Mapping[str, Problem],
        request: RolloutRequest,
        rollout: Rollout,
    ) -> None:
        """Have a rollout verified that has just ended, if there is anything to verify; ``problems`` by id."""
        # What a cutoff ends is incorrect without a word from the verifier.
        cut = rollout.truncated and request.max_new_tokens < self._config.rollout.max_solution_tokens
        if early is not None and rollout.path == "solution" and not cut:
            (text,) = self.texts([rollout])
            early.begin(rollout, text, verifier_item(problems[rollout.problem_id], text))

    def close_early(self, early: EarlyVerdicts | None) -> None:
        """Nothing more ends; verdicts that are not there yet are still to come."""
        if early is not None:
            self._hidden_seconds += early.seconds
            early.close()

    def hidden_seconds(self) -> float | None:
        """Seconds that verification worked beside sampling, since the last call; None where it never does."""
        seconds, self._hidden_seconds = self._hidden_seconds, 0.0
        return seconds if self._verifies_early else None

    def _give_up_early(self) -> EarlyVerdicts | None:
        early, self._early = self._early, None
        return early

    def grade(
        self,
        problems: Sequence[Problem],
        rollouts: Sequence[Sequence[Rollout]],
        *,
        held_out: bool = False,
        early: EarlyVerdicts | None = None,
    ) -> list[GradedGroup]:
        """One group a problem, in their order.

        ``rollouts`` holds the solutions and the metas of each problem, a list for each, in any order. With
        ``held_out`` only those reward functions are called that are asked for in evaluations. ``early`` has verdicts
        of solutions among them; without it those of `sampled` are taken.
        """
        by_problem: dict[tuple[str, str], tuple[Rollout, ...]] = {
            (samples[0].problem_id, samples[0].path): tuple(samples) for samples in rollouts
        }
        solutions = [by_problem[problem.id, "solution"] for problem in problems]
        early = early or self._give_up_early()
        known = [[early.take(one) if early and not one.cut else None for one in group] for group in solutions]
        texts = [self._texts_beside(group, found) for group, found in zip(solutions, known, strict=True)]
        verdicts = self._verdicts(problems, solutions, texts, known)
        functions = iter(self._function_rewards(problems, solutions, texts, held_out))
        return [
            self._grade_one(
                problem,
                group,
                group_texts,
                [next(verdicts) for _ in group],
                by_problem.get((problem.id, "meta"), ()),
                next(functions),
            )
            for problem, group, group_texts in zip(problems, solutions, texts, strict=True)
        ]

    def _texts_beside(self, group: Sequence[Rollout], known: Sequence[Early | None]) -> tuple[str, ...]:
        """What rollouts say, read only where it is not known."""
        others = [rollout for rollout, found in zip(group, known, strict=True) if found is None]
        read = iter(self.texts(others))
        return tuple(next(read) if found is None else found.text for found in known)

    def _verdicts(
        self,
        problems: Sequence[Problem],
        solutions: Sequence[Sequence[Rollout]],
        texts: Sequence[Sequence[str]],
        known: Sequence[Sequence[Early | None]],
    ) -> Iterator[Verdict]:
        """One verdict a solution, in order; the verifier is asked at once for all that are not known."""
        open_items = [
            verifier_item(problem, text)
            for problem, group, group_texts, found in zip(problems, solutions, texts, known, strict=True)
            for rollout, text, early in zip(group, group_texts, found, strict=True)
            if early is None and not rollout.cut
        ]
        asked = iter(verified(self._verifier, open_items))
        for group, found in zip(solutions, known, strict=True):
            for rollout, early in zip(group, found, strict=True):
                if rollout.cut:
                    # What an early cutoff ended is incorrect, whatever it had written by then.
                    yield Verdict(correct=False, status="incorrect")
                else:
                    yield next(asked) if early is None else early.verdict.result()

    def _grade_one(
        self,
        problem: Problem,
        solutions: tuple[Rollout, ...],
        texts: tuple[str, ...],
        verdicts: list[Verdict],
        metas: tuple[Rollout, ...],
        function_rewards: Mapping[str, tuple[FunctionReward, ...]],
    ) -> GradedGroup:
        statistics = _statistics(problem, solutions, texts, verdicts)
        rewards = [
            verdict.reward + self._added(number, solution, function_rewards)
            for number, (verdict, solution) in enumerate(zip(verdicts, solutions, strict=True))
        ]
        meta_texts = self.texts(metas)
        predictions = [self.parse(text) for text in meta_texts]
        meta_rewards = reward_metas(predictions, metas, statistics, self._config)
        return GradedGroup(
            problem=problem,
            solutions=solutions,
            solution_texts=texts,
            verdicts=tuple(verdicts),
            solution_rewards=tuple(rewards),
            statistics=statistics,
            metas=metas,
            meta_texts=meta_texts,
            predictions=tuple(predictions),
            meta_rewards=tuple(meta_rewards),
            notion_match=self._config.rewards.notion_match,
            function_rewards=function_rewards,
        )

    def _function_rewards(
        self,
        problems: Sequence[Problem],
        solutions: Sequence[Sequence[Rollout]],
        texts: Sequence[Sequence[str]],
        held_out: bool,
    ) -> list[dict[str, tuple[FunctionReward, ...]]]:
        """What each reward function said of each solution, by problem."""
        if self._functions is None:
            return [{} for _ in problems]
        responses = [
            Response(problem, text, rollout)
            for problem, group, group_texts in zip(problems, solutions, texts, strict=True)
            for rollout, text in zip(group, group_texts, strict=True)
        ]
        scores = {name: iter(found) for name, found in self._functions.score(responses, held_out=held_out).items()}
        return [{name: tuple(islice(found, len(group))) for name, found in scores.items()} for group in solutions]

    def _added(self, number: int, solution: Rollout, function_rewards: Mapping[str, Sequence[FunctionReward]]) -> float:
        """What is added to the correctness of a solution; what a function did not say counts 0."""
        total = 0.0
        if self._functions is not None:
            weights = self._functions.weights
            total = math.fsum(weights[name] * (found[number].value or 0.0) for name, found in function_rewards.items())
        if self._punished:
            limit = self._config.rollout.max_solution_tokens
            total += float(overlong_punishment([len(solution.token_ids)], limit, self._punished)[0])
        return total

    def judge(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """The verifier's word on further texts as responses to one problem."""
        return verified(self._verifier, [verifier_item(problem, text) for text in texts])

    def predictions(self, metas: Sequence[Rollout]) -> list[MetaPrediction]:
        """What meta rollouts predict, before any solution exists."""
        return [self.parse(text) for text in self.texts(metas)]

    def texts(self, rollouts: Sequence[Rollout]) -> tuple[str, ...]:
        """What rollouts say, without special tokens."""
        # A batch of no sequences decodes to one empty text.
        if not rollouts:
            return ()
        ids = [list(rollout.token_ids) for rollout in rollouts]
        return tuple(self._tokenizer.batch_decode(ids, skip_special_tokens=True)) if ids else ()

    def parse(self, text: str) -> MetaPrediction:
        """Read one meta-prediction with the configured keys and limits."""
        return parse_meta_prediction(
            text,
            keys=self.keys,
            pass_rate_total=self._config.prompts.pass_rate_total,
            max_length=self._config.rollout.max_solution_tokens,
        )


def function_values(groups: Sequence[GradedGroup]) -> dict[str, list[float]]:
    """The values of each reward function that was called, of all solutions that it gave one."""
    found: dict[str, list[float]] = {}
    for group in groups:
        for name, rewards in group.function_rewards.items():
            found.setdefault(name, []).extend(one.value for one in rewards if one.value is not None)
    return found


def verifier_item(problem: Problem, text: str) -> dict[str, Any]:
    """What the verifier is asked of one response; options go along, so that an option's text counts too."""
    item = {"verifier": problem.verifier, "response": text, "answer": problem.answer}
    options = problem.metadata.get("options")
    return item if options is None else {**item, "options": options}


def _statistics(
    problem: Problem, solutions: Sequence[Rollout], texts: Sequence[str], verdicts: Sequence[Verdict]
) -> SolutionGroup:
    """d_sol, the lengths of the correct solutions, and the texts by correctness."""
    correct = [bool(verdict.correct) for verdict in verdicts]
    return SolutionGroup(
        pass_rate=sum(correct) / len(correct),
        correct_lengths=tuple(len(one.token_ids) for one, right in zip(solutions, correct, strict=True) if right),
        correct_texts=tuple(text for text, right in zip(texts, correct, strict=True) if right),
        incorrect_texts=tuple(text for text, right in zip(texts, correct, strict=True) if not right),
        problem_text=problem.statement,
    )
