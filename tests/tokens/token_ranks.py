"""Two processes with graded groups of their own: what each knows afterwards, as JSON in the folder that is named."""

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from masa.config.algorithm import AlgorithmSection
from masa.flow.rows import training_rows
from masa.policy.batching.workload import divide_work
from masa.policy.objective.presets import preset
from masa.policy.update.shares import share_rows
from masa.problems import Problem
from masa.rewards import Verdict
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.engine import Rollout, RolloutPath
from masa.rollout.moving import bring, spread
from masa.session import Session
from masa.tokens.arrays import TokenIds
from masa.tokens.elsewhere import Elsewhere, ElsewhereError
from masa.tokens.exchange import Tokens, exchange
from masa.tracking.texts import with_shown_texts

PROBLEMS = [Problem(f"p{number}", f"What is {number}?", str(number)) for number in range(6)]


def group_of(problem: Problem) -> GradedGroup:
    """Three solutions and two metas of lengths that differ."""
    number = int(problem.id[1:])
    prompts = {path: TokenIds(range(10 + number + shift)) for shift, path in enumerate(("solution", "meta"))}

    def rollout(path: RolloutPath, index: int) -> Rollout:
        length = 1 + 3 * number + index
        ids = tuple(1000 * number + 100 * index + place + (path == "meta") for place in range(length))
        return Rollout(problem.id, path, index, prompts[path], ids, tuple(-0.1 * one for one in ids), "stop", 0, 0.0)

    rewards = [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)][number % 2]
    return GradedGroup(
        problem=problem,
        solutions=tuple(rollout("solution", index) for index in range(3)),
        solution_texts=tuple(f"solution {index} of {problem.id}" for index in range(3)),
        verdicts=tuple(Verdict(correct=one == 1, status="correct" if one else "incorrect") for one in rewards),
        solution_rewards=rewards,
        statistics=SolutionGroup(1 / 3, (4,), ("right",), ("wrong", "wrong")),
        metas=tuple(rollout("meta", index) for index in range(2)),
        meta_texts=tuple(f"meta {index} of {problem.id}" for index in range(2)),
        predictions=(MetaPrediction(length=3),) * 2,
        meta_rewards=(MetaReward(0.2, 0.2, 0.2, 0.2), MetaReward(0.8, 0.8, 0.8, 0.8)),
    )


class Processes(Session):
    """A session that has nothing but its processes."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator


def numbers(values: Any) -> Any:
    return f"in {values.process}: {len(values)}" if isinstance(values, Elsewhere) else list(values)


def main(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    session = Processes(accelerator)
    rank = accelerator.process_index
    groups = session.gather([group_of(one) for one in session.share(PROBLEMS)], PROBLEMS)
    found: dict[str, Any] = {
        "order": [group.problem.id for group in groups],
        "tokens": {group.problem.id: [numbers(one.token_ids) for one in group.solutions] for group in groups},
        "logprobs": {group.problem.id: [numbers(one.logprobs) for one in group.metas] for group in groups},
        "one prompt a path": all(
            len({id(one.prompt_ids) for one in rollouts}) == 1
            for group in groups
            for rollouts in (group.solutions, group.metas)
            if group.process is not None
        ),
        "statistics": [
            [group.verdicts, group.solution_rewards, group.meta_rewards, group.predictions]
            == [
                expected.verdicts,
                expected.solution_rewards,
                expected.meta_rewards,
                expected.predictions,
            ]
            for group, expected in zip(groups, map(group_of, PROBLEMS), strict=True)
        ],
        "texts": {
            group.problem.id: [group.solution_texts, group.meta_texts]
            for group in with_shown_texts(groups, 2, session.gather_objects)
        },
    }

    loss = preset("grpo")
    (rows,) = training_rows(groups, loss.advantage, AlgorithmSection())
    share = share_rows(rows, loss.loss, lambda rows: divide_work(rows, 2, 64), session.place)
    (all_here,) = training_rows([group_of(one) for one in PROBLEMS], loss.advantage, AlgorithmSection())
    planned = {index for batch in share.plan for index in batch}
    found["planned"] = sorted(planned)
    found["rows are whole"] = all(share.rows[index] == all_here[index] for index in planned)
    found["others stay"] = sum(isinstance(row.token_ids, Elsewhere) for row in share.rows)

    # A row alone leaves the second process without one: it joins with the first row's first token.
    alone = share_rows(rows[:1], loss.loss, lambda rows: divide_work(rows, 2, 64), session.place)
    found["instead"] = [list(row.token_ids) for batch in alone.plan for row in alone.chosen(batch)]

    rollouts = [one for problem in PROBLEMS for one in group_of(problem).solutions]
    kept = spread(rollouts, session.place)
    found["kept"] = sum(isinstance(one.token_ids, TokenIds) for one in kept)
    at_first = bring(kept, [range(len(kept)), []], session.place)
    found["at first"] = [at_first[index] == rollouts[index] for index in sorted(at_first)]
    found["nothing is sent"] = dict(exchange([Tokens((1,), (-1.0,))] * 2, [[0], [1]], session.place)) == {
        rank: Tokens((1,), (-1.0,))
    }
    try:
        exchange([Tokens(Elsewhere(1, 4), Elsewhere(1, 4))], [[0], []], session.place)
    except ElsewhereError as error:
        found["lost"] = str(error)
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
