"""A stand-in for the policy, with chosen predictions and pass rates, behind real requests, grades and controls."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from small_controls import HINTED_TEMPLATE

from masa.config import Config, load_config
from masa.controls.batch import ShapedBatch
from masa.controls.controls import Controls
from masa.embedded import load_embedded_tokenizer
from masa.flow.dynamic_sampling import DynamicSampling
from masa.flow.step import StepFlow
from masa.preflight import prepare
from masa.problems import Problem
from masa.problems.sampling import ProblemSampler
from masa.rewards import Verdict
from masa.rewards.grading import GradedGroup, Grader
from masa.rollout.engine import Rollout, RolloutRequest, RolloutStream
from masa.rollout.room import engine_room, load_model_config
from masa.rollout.stream import RoundStream
from masa.tokens.exchange import Place
from masa.tracking.metrics import StepMetrics

# A gate that leaves out half of the problems that it flags, lets the others through, and audits none.
LEAVES_HALF_OUT = (
    "problems.train=embedded:train",
    "controls.gating.enabled=true",
    "controls.gating.start=open",
    "controls.gating.gated=leave_out",
    "controls.gating.max_share=0.5",
    "controls.gating.audit_share=0",
)
Predict = Callable[[str, random.Random], str]


class ChosenEngine:
    """Answers metas with ``predict(problem id, random)`` and solutions by a true pass rate and length a problem.

    A solution reads ``right`` or ``wrong`` at its very end, after ``length`` tokens; one that is cut reads neither.
    """

    def __init__(
        self,
        tokenizer: Any,
        predict: Predict,
        rates: Mapping[str, float],
        length: Callable[[str, bool], int] = lambda problem, right: 20,
    ) -> None:
        self._tokenizer = tokenizer
        self._predict = predict
        self._rates = rates
        self._length = length
        self.requests: list[RolloutRequest] = []
        self.rollouts: list[Rollout] = []
        self.encode = lru_cache(maxsize=None)(lambda text: tuple(tokenizer.encode(text, add_special_tokens=False)))

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        self.requests += requests
        found = [[self._rollout(request, seed) for seed in request.seeds] for request in requests]
        self.rollouts += [one for group in found for one in group]
        return found

    def stream(self) -> RolloutStream:
        return RoundStream(self.generate)

    def _rollout(self, request: RolloutRequest, seed: int) -> Rollout:
        draw = random.Random(seed)
        if request.path == "meta":
            ids = self.encode(self._predict(request.problem_id, draw))
        else:
            right = draw.random() < self._rates[request.problem_id]
            end = self.encode(" right" if right else " wrong")
            filler = self.encode(" .") * self._length(request.problem_id, right)
            ids = (*filler[: max(0, self._length(request.problem_id, right) - len(end) - 1)], *end)
        ids = (*ids, self._tokenizer.eos_token_id)
        stopped = len(ids) <= request.max_new_tokens
        ids = ids[: request.max_new_tokens]
        return Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=request.seeds.index(seed),
            prompt_ids=request.prompt_ids,
            token_ids=ids,
            logprobs=(-1.0,) * len(ids),
            finish_reason="stop" if stopped else "length",
            weight_version=0,
            seconds=0.0,
        )


class ReadsTheEnd:
    """A verifier for `ChosenEngine`'s solutions."""

    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        right = [item["response"].endswith("right") for item in items]
        return [Verdict(correct=one, status="correct" if one else "incorrect") for one in right]


class World:
    """Controls, sampler and grader around a `ChosenEngine`, in one process."""

    def __init__(
        self,
        predict: Predict,
        rates: Mapping[str, float],
        *overrides: str,
        length: Callable[[str, bool], int] = lambda problem, right: 20,
    ) -> None:
        self.config: Config = load_config(
            None,
            [
                "prompts.meta=embedded",
                f"prompts.solution={HINTED_TEMPLATE!r}",
                "rollout.max_solution_tokens=64",
                "rollout.max_meta_tokens=256",
                "algorithm.num_problems=16",
                "algorithm.num_solutions=8",
                "algorithm.num_metas=4",
                "controls.cutoff.floor=8",
                *overrides,
            ],
        )
        tokenizer = tokenizer_of_the_world()
        problems = [Problem(id, f"Problem {id}", "right") for id in rates]
        self.prepared = prepare(self.config, tokenizer=tokenizer, problems=problems)
        self.engine = ChosenEngine(tokenizer, predict, rates, length)
        self.grader = Grader(self.config, tokenizer, ReadsTheEnd())
        room = engine_room(self.config.rollout, load_model_config(self.config.model))
        self.controls = Controls(self.config, self.prepared.builder, self.grader, room)
        self.dynamic_sampling: DynamicSampling | None = None
        self.sampler = ProblemSampler(self.prepared.train, self.config.algorithm.num_problems, self.config.run.seed)

    def share(self, problems: Sequence[Problem]) -> list[Problem]:
        return list(problems)

    def gather_objects(self, objects: list[Any]) -> list[Any]:
        return objects

    @property
    def place(self) -> Place:
        return Place()

    def step(self, step: int) -> tuple[ShapedBatch, list[GradedGroup], dict[str, float]]:
        """One step up to the update, and the metrics of the controls."""
        processes: Any = self
        flow = StepFlow(self.sampler, processes, self.prepared.builder, self.config)
        start = flow.begin(step)
        batch = flow.finish(start, flow.sample(start))
        groups = batch.grade(self.grader)
        gated = self.controls.reward_gated(step, batch.gated)
        metrics: StepMetrics = self.controls.observe(step, batch, groups, gated)
        return batch, groups, metrics.flatten()


@lru_cache(maxsize=1)
def tokenizer_of_the_world() -> Any:
    return load_embedded_tokenizer()


def prediction(rate: float, length: int, notions: Sequence[str] = ("x",)) -> str:
    """A well-formed meta-prediction; the rate is written out of 8."""
    listed = ", ".join(f'"{notion}"' for notion in notions)
    return f'<meta>so</meta>{{"notions": [{listed}], "pass_rate": {round(rate * 8)}, "solution_length": {length}}}'
