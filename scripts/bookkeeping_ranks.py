"""One process of several that share the graded groups of a large step: what each stage costs it, as JSON.

`bench_bookkeeping.py --before COMMIT` starts it, also with the package of an earlier commit on the path, in which
rollouts were tuples and every process got all tokens. Groups are synthetic, of the sizes of the paper's job.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from accelerate import Accelerator

from masa.config.algorithm import AlgorithmSection
from masa.controls.batch import ShapedBatch
from masa.flow.rows import training_rows
from masa.flow.staleness import record_staleness
from masa.policy.batching.workload import divide_work
from masa.policy.objective.losses import contributing_rows
from masa.policy.objective.presets import preset
from masa.problems import Problem
from masa.rewards import Verdict
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.engine import Rollout, RolloutPath
from masa.session import Session
from masa.tracking.cost import ModelShape, record_step_cost
from masa.tracking.groups import record_groups
from masa.tracking.metrics import StepMetrics

IS_ARRAYS = importlib.util.find_spec("masa.tokens") is not None
PROBLEMS, OF_EACH = 128, 16
LENGTHS: dict[RolloutPath, int] = {"solution": 6251, "meta": 2293}
PROMPT_TOKENS, VOCABULARY, TOKENS_A_MICRO_BATCH, SHOWN = 150, 151_000, 32_768, 4
TEXT = "the sum of the first n odd numbers is a square, so we look for the largest n with "
CHARACTERS_A_TOKEN = 4


class Processes(Session):
    """A session that has nothing but its processes."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator


class Stages:
    """CPU-seconds of stages that the processes begin together."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._own = psutil.Process()
        self._before = self._own.memory_info().rss
        self.found: dict[str, float] = {}

    def run(self, name: str, do: Callable[[], Any]) -> Any:
        self._accelerator.wait_for_everyone()
        start = time.process_time()
        made = do()
        self.found[f"{name}, s"] = time.process_time() - start
        self.found[f"{name}, held"] = self._own.memory_info().rss - self._before
        self.found[f"{name}, peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._before
        return made


def group_of(number: int, scale: int) -> GradedGroup:
    """A problem's graded group; lengths vary by a third either way."""
    draw, numbers = random.Random(number), np.random.default_rng(number)
    problem = Problem(f"p{number}", "A statement. " * 20, str(number))
    paths: dict[RolloutPath, list[Rollout]] = {}
    for path, mean in LENGTHS.items():
        prompt = tuple(numbers.integers(0, VOCABULARY, PROMPT_TOKENS).tolist())
        if IS_ARRAYS:
            prompt = _as_array(prompt)
        paths[path] = [
            _rollout(problem.id, path, index, prompt, int(mean * draw.uniform(2 / 3, 4 / 3)) // scale, numbers)
            for index in range(OF_EACH)
        ]
    right = [index % 3 == 0 for index in range(OF_EACH)]
    texts = {path: tuple(_text(len(one.token_ids)) for one in rollouts) for path, rollouts in paths.items()}
    solutions = zip(texts["solution"], right, strict=True)
    return GradedGroup(
        problem=problem,
        solutions=tuple(paths["solution"]),
        solution_texts=texts["solution"],
        verdicts=tuple(Verdict(one, "correct" if one else "incorrect", "42") for one in right),
        solution_rewards=tuple(map(float, right)),
        statistics=SolutionGroup(
            sum(right) / OF_EACH,
            tuple(len(one.token_ids) for one, good in zip(paths["solution"], right, strict=True) if good),
            tuple(text for text, good in solutions if good),
            tuple(text for text, good in zip(texts["solution"], right, strict=True) if not good),
            problem.statement,
        ),
        metas=tuple(paths["meta"]),
        meta_texts=texts["meta"],
        predictions=(MetaPrediction(("odd numbers", "squares"), 0.5, 6000),) * OF_EACH,
        meta_rewards=tuple(MetaReward(index / 16, 1.0, index / 16, 0.5) for index in range(OF_EACH)),
    )


def _as_array(ids: Any) -> Any:
    from masa.tokens.arrays import TokenIds

    return TokenIds(ids)


def _rollout(problem: str, path: RolloutPath, index: int, prompt: Any, length: int, numbers: Any) -> Rollout:
    """As engines give it: of tuples, or of arrays."""
    ids, logprobs = numbers.integers(0, VOCABULARY, length), -numbers.random(length, dtype=np.float32)
    if not IS_ARRAYS:
        ids, logprobs = tuple(ids.tolist()), tuple(logprobs.tolist())
    return Rollout(problem, path, index, prompt, ids, logprobs, "stop", 1, 60.0)


def _text(tokens: int) -> str:
    size = CHARACTERS_A_TOKEN * tokens
    return (TEXT * (size // len(TEXT) + 1))[:size]


def divided(rows: Any, session: Processes) -> tuple[Any, list[list[int]], Any]:
    """The rows, this process's micro-batches as indices of them, and how one becomes tensors."""
    loss, processes = preset("grpo").loss, session.accelerator.num_processes

    def divide(tokens: Any) -> Any:
        return divide_work(tokens, processes, TOKENS_A_MICRO_BATCH)

    if IS_ARRAYS:
        from masa.policy.update.shares import share_rows

        share = share_rows(rows, loss, divide, session.place)
        return share.rows, share.plan, share.work.collate
    kept = contributing_rows([row.advantage for row in rows], [row.counted_length for row in rows], loss)
    work = divide([rows[index].tokens() for index in kept])
    plan = [[kept[index] for index in batch] for batch in work.plans[session.accelerator.process_index]]
    return rows, plan, work.collate


def collated(rows: Any, plan: Any, collate: Any) -> int:
    """Make each micro-batch as the update does, and drop it."""
    tokens = 0
    for indices in plan:
        chosen = [rows[index] for index in indices]
        batch = collate([row.tokens() for row in chosen])
        tokens += int(batch.align([row.rollout_logprobs for row in chosen]).shape[0])
    return tokens


def recorded(groups: Any, session: Processes, own: Any) -> StepMetrics:
    """The metrics of the step, and the texts that are shown of it."""
    metrics = StepMetrics()
    batch = ShapedBatch([one.problem for one in groups], [one.problem for one in own], [])
    record_groups(metrics, groups)
    record_step_cost(metrics, ModelShape(8 * 10**9, 36 * 4096), groups, batch, [1] * len(groups))
    record_staleness(metrics, groups, 2)
    if IS_ARRAYS:
        from masa.tracking.texts import with_shown_texts

        with_shown_texts(groups, SHOWN, session.gather_objects)
    metrics.flatten()
    return metrics


def main(out: Path, scale: int) -> None:
    accelerator = Accelerator(cpu=True)
    session = Processes(accelerator)
    problems = [Problem(f"p{number}", "A statement. " * 20, str(number)) for number in range(PROBLEMS)]
    shares = range(accelerator.process_index, PROBLEMS, accelerator.num_processes)
    stages = Stages(accelerator)
    own = stages.run("own rollouts", lambda: [group_of(number, scale) for number in shares])
    groups = stages.run("gather", lambda: session.gather(own, problems))
    algorithm = preset("grpo")
    (rows,) = stages.run("rows", lambda: training_rows(groups, algorithm.advantage, AlgorithmSection()))
    divided_rows, plan, collate = stages.run("divide", lambda: divided(rows, session))
    stages.run("collate", lambda: collated(divided_rows, plan, collate))
    stages.run("statistics", lambda: recorded(groups, session, own))

    found = stages.found
    sent = [one.left_at(0) for one in own] if IS_ARRAYS else own
    found["gathered, bytes"] = len(pickle.dumps(sent))
    here = {id(one.token_ids) for group in own for one in (*group.solutions, *group.metas)}
    trained = [divided_rows[index] for batch in plan for index in batch]
    found["tokens trained"] = sum(len(row.token_ids) for row in trained)
    found["fetched, bytes"] = 8 * sum(len(row.token_ids) for row in trained if id(row.token_ids) not in here)
    found["fetched, bytes"] *= IS_ARRAYS
    (out / f"rank-{accelerator.process_index}.json").write_text(json.dumps(found))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
