"""The rows that a cold start clones: for each problem of an update a written meta-prediction, and a solution."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from masa.cold_start.solved import SolvedProblem
from masa.cold_start.written_metas import MetaWriter
from masa.config import Config, ConfigError
from masa.policy.batching.collate import TokenRow
from masa.problems import Problem
from masa.problems.seeds import derive_seed
from masa.rollout.requests import RequestBuilder


@dataclass(frozen=True)
class _Example:
    """A problem with its prompts, the responses of its meta-prediction in every wording that fits, and solutions."""

    problem_id: str
    meta_prompt: tuple[int, ...]
    metas: tuple[tuple[int, ...], ...]
    solution_prompt: tuple[int, ...]
    solutions: tuple[tuple[int, ...], ...]


class Examples:
    """Batches of rows, each a function of the run's seed and the update's number alone.

    Args:
        solved: the problems that are cloned, solved.
        problems: all problems by id.
        end: the token that ends a response.
        with_solutions: clone solutions beside meta-predictions.

    Raises:
        ConfigError: no meta-prediction fits into ``rollout.max_meta_tokens``, or the thoughts of one are wrong.
    """

    def __init__(
        self,
        solved: Sequence[SolvedProblem],
        problems: Mapping[str, Problem],
        builder: RequestBuilder,
        writer: MetaWriter,
        config: Config,
        *,
        end: int,
        with_solutions: bool,
    ) -> None:
        self._seed = config.run.seed
        self._builder = builder
        self._writer = writer
        self._end = end
        limit = config.rollout.max_meta_tokens
        written = [(one, self._metas(one, limit)) for one in solved]
        self._examples = [
            _Example(
                one.problem_id,
                builder.prompt_ids(problems[one.problem_id], "meta"),
                metas,
                builder.prompt_ids(problems[one.problem_id], "solution"),
                self._solutions(one, config.rollout.max_solution_tokens) if with_solutions else (),
            )
            for one, metas in written
            if metas
        ]
        self.too_long = len(written) - len(self._examples)
        if not self._examples:
            raise ConfigError(
                f"rollout.max_meta_tokens: found {limit}, in which none of {len(written)} written meta-predictions "
                "fits; raise it, lower cold_start.max_notions, or name shorter cold_start.thoughts"
            )
        self._batch_size = min(config.cold_start.batch_size, len(self._examples))

    @property
    def with_solution(self) -> int:
        """Problems of which a solution can be cloned."""
        return sum(bool(one.solutions) for one in self._examples)

    def __len__(self) -> int:
        """Problems whose meta-prediction is cloned."""
        return len(self._examples)

    def batch(self, update: int) -> list[TokenRow]:
        """The rows of update ``update``, counted from 0: every problem once before any comes again."""
        rows = []
        places = [
            divmod(place, len(self._examples))
            for place in range(update * self._batch_size, (update + 1) * self._batch_size)
        ]
        orders = {epoch: self._order(epoch) for epoch in {epoch for epoch, _ in places}}
        for epoch, index in places:
            one = self._examples[orders[epoch][index]]
            choice = random.Random(derive_seed(self._seed, "cold start", epoch, one.problem_id))
            rows.append(TokenRow(one.meta_prompt, choice.choice(one.metas)))
            if one.solutions:
                rows.append(TokenRow(one.solution_prompt, choice.choice(one.solutions)))
        return rows

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._examples)))
        random.Random(derive_seed(self._seed, "cold start order", epoch)).shuffle(order)
        return order

    def _metas(self, one: SolvedProblem, limit: int) -> tuple[tuple[int, ...], ...]:
        texts = [self._writer.write(one.facts, variant) for variant in range(self._writer.variants)]
        responses = [self._response(text) for text in texts]
        return tuple(ids for ids in responses if len(ids) <= limit)

    def _solutions(self, one: SolvedProblem, limit: int) -> tuple[tuple[int, ...], ...]:
        if one.worked is None:
            return one.solutions
        ids = self._response(one.worked)
        return (ids,) if len(ids) <= limit else ()

    def _response(self, text: str) -> tuple[int, ...]:
        return (*self._builder.tokenizer.encode(text, add_special_tokens=False), self._end)


def end_token(solved: Sequence[SolvedProblem], stop_ids: Sequence[int], preferred: int | None) -> int:
    """The token that ends a written response: the one of ``stop_ids`` that ends most of the policy's own solutions.

    Where none of them ends one (``rollout.stop`` ends responses with any token): ``preferred`` if it is one of
    ``stop_ids``, else the first of these.
    """
    counts = Counter[int]()
    for one in solved:
        counts.update({token: count for token, count in one.ends.items() if token in stop_ids})
    if counts:
        return min(counts, key=lambda token: (-counts[token], token))
    return preferred if preferred in stop_ids and preferred is not None else stop_ids[0]
