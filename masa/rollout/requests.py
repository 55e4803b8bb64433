"""From problems to rollout requests: the two prompts of each problem, its limits and its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.config import Config
from masa.problems import Problem
from masa.problems.chat import ChatFormat
from masa.problems.encoding import encode_problems
from masa.problems.prompts import PromptTemplates
from masa.problems.seeds import derive_seed
from masa.rollout.engine import RolloutPath, RolloutRequest, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RequestBuilder:
    """Builds the requests of a step: q_sol and q_meta of every problem (docs/method.md).

    Seeds derive from (run seed, step, problem id, path, index), so a sample is the same whatever is sampled beside it.
    """

    def __init__(self, config: Config, templates: PromptTemplates, tokenizer: PreTrainedTokenizerBase) -> None:
        self._config = config
        self.templates = templates
        self.tokenizer = tokenizer
        self.format = ChatFormat.of(config.prompts)
        self._sampling = Sampling(
            config.rollout.temperature, config.rollout.top_p, config.rollout.top_k, config.rollout.min_p
        )
        self._limits: dict[RolloutPath, int] = {
            "solution": config.rollout.max_solution_tokens,
            "meta": config.rollout.max_meta_tokens,
        }

    def prompt_text(self, problem: Problem, path: RolloutPath, hint: str | None = None) -> str:
        """The user message of one prompt, before the chat template; only solution prompts take a hint."""
        if path == "meta":
            return self.templates.render_meta(problem)
        return self.templates.render_solution(problem, hint)

    def prompt_ids(self, problem: Problem, path: RolloutPath, hint: str | None = None) -> tuple[int, ...]:
        """The token ids of one prompt, chat template and generation prompt included."""
        text = self.prompt_text(problem, path, hint)
        return encode_problems(self.tokenizer, [problem], [text], path, self.format)[0]

    def requests(
        self,
        problems: Sequence[Problem],
        *,
        step: int | str,
        num_solutions: int,
        num_metas: int,
        sampling: Sampling | None = None,
        max_solution_tokens: int | None = None,
    ) -> list[RolloutRequest]:
        """All solution requests and then all meta requests (none where ``num_metas`` is 0), as one batch.

        ``step`` is part of the seeds: a step's number, or a word for rollouts outside of training.
        ``max_solution_tokens`` takes the place of the solutions' limit in training.
        """
        counts: dict[RolloutPath, int] = {"solution": num_solutions, "meta": num_metas}
        limits = self._limits if max_solution_tokens is None else {**self._limits, "solution": max_solution_tokens}
        return [
            RolloutRequest(
                problem_id=problem.id,
                path=path,
                prompt_ids=self.prompt_ids(problem, path),
                seeds=tuple(
                    derive_seed(self._config.run.seed, step, problem.id, path, index) for index in range(count)
                ),
                max_new_tokens=limits[path],
                sampling=sampling or self._sampling,
            )
            for path, count in counts.items()
            if count
            for problem in problems
        ]

    def solution_request(
        self, problem: Problem, indices: Sequence[int], *, step: int, max_new_tokens: int, hint: str | None = None
    ) -> RolloutRequest:
        """Some of a problem's solutions under a hint and a limit of their own.

        Solution ``index`` has the seed it has in `requests`; the engine counts from 0 within the request.
        """
        return RolloutRequest(
            problem_id=problem.id,
            path="solution",
            prompt_ids=self.prompt_ids(problem, "solution", hint),
            seeds=tuple(derive_seed(self._config.run.seed, step, problem.id, "solution", index) for index in indices),
            max_new_tokens=max_new_tokens,
            sampling=self._sampling,
        )
