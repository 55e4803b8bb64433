"""Sampling the rollouts of later steps while the policy is updated.

The batch of step s is sampled with the weights after step s - 1 - k, for ``k = async_steps``: exactly so, whatever
takes how long, and therefore repeatable. k = 1 already overlaps all that can overlap; a larger k makes rollouts older,
for studies of what age does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import torch

from masa.config import ConfigError
from masa.controls.batch import StepBatch
from masa.problems import Problem
from masa.rollout.engine import Rollout
from masa.rollout.waiting import Waiting, rollout_of_json


def require_correction(steps_ahead: int, corrects: bool) -> None:
    """Rollouts of older weights need their importance weights.

    Raises:
        ConfigError: there are such rollouts and the loss does not correct for them.
    """
    if steps_ahead and not corrects:
        raise ConfigError(
            f"rollout.async_steps: found {steps_ahead}, allowed without importance weights: 0; "
            "set algorithm.tis_cap, for example to 2, or algorithm.correction"
        )


class RolloutsAhead:
    """Batches of rollouts, step by step, sampled at most ``steps_ahead`` steps before they are taken.

    With ``steps_ahead`` 0 there is no thread: a batch is sampled when it is taken.

    Args:
        sample: makes the batch of a step; called for one step after the other.
        steps_ahead: how many steps to sample ahead (k).
        last_step: nothing is sampled for steps after it.
    """

    def __init__(self, sample: Callable[[int], StepBatch], steps_ahead: int, last_step: int) -> None:
        self._sample = sample
        self._steps_ahead = steps_ahead
        self._last_step = last_step
        self._pending: dict[int, Future[StepBatch]] = {}
        self._executor: ThreadPoolExecutor | None = None
        if steps_ahead:
            on_this_device = partial(_use_device, torch.cuda.current_device() if torch.cuda.is_available() else None)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="masa-rollouts", initializer=on_this_device)

    def take(self, step: int) -> StepBatch:
        """The batch of ``step``; those of the next ``steps_ahead`` steps are being sampled from now on.

        Raises:
            Exception: whatever sampling this batch raised.
        """
        if self._executor is None:
            return self._sample(step)
        for number in range(step, min(step + self._steps_ahead, self._last_step) + 1):
            if number not in self._pending:
                self._pending[number] = self._executor.submit(self._sample, number)
        return self._pending.pop(step).result()

    def wait(self) -> None:
        """Return when nothing is being sampled: now the engine may take weights.

        Raises:
            Exception: whatever sampling raised.
        """
        for future in self._pending.values():
            future.result()

    def state(self) -> Waiting:
        """The batches that have been sampled and not taken, for a checkpoint: of each its step, problems and groups."""
        self.wait()
        batches = [(step, future.result()) for step, future in sorted(self._pending.items())]
        layout = [
            {
                "step": step,
                "problems": [problem.id for problem in batch.problems],
                "group_sizes": [len(group) for group in batch.rollouts],
            }
            for step, batch in batches
        ]
        return Waiting(layout, [rollout for _, batch in batches for group in batch.rollouts for rollout in group])

    def restore(
        self,
        states: Iterable[Waiting],
        problems: Iterable[Problem],
        share: Callable[[Sequence[Problem]], list[Problem]],
    ) -> None:
        """Take the batches of a checkpoint, in which each process had its `state`; their number may have changed.

        Args:
            states: what `state` returned in each process.
            problems: the training problems.
            share: this process's part of a batch's problems.
        """
        by_id = {problem.id: problem for problem in problems}
        merged: dict[int, tuple[list[str], list[list[Rollout]]]] = {}
        for state in states:
            rollouts = iter(state.rollouts)
            for one in state.layout:
                groups = [list(islice(rollouts, size)) for size in one["group_sizes"]]
                merged.setdefault(int(one["step"]), (list(one["problems"]), []))[1].extend(groups)
        for step, (names, groups) in merged.items():
            batch_problems = [by_id[name] for name in names]
            mine = share(batch_problems)
            future: Future[StepBatch] = Future()
            future.set_result(StepBatch(batch_problems, mine, _in_order(groups, mine)))
            self._pending[step] = future

    def close(self) -> None:
        """Sample nothing more; what is being sampled ends when its engine is closed."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def ahead_of_json(state: Sequence[Mapping[str, Any]]) -> Waiting:
    """What checkpoints of earlier versions hold in JSON: the groups themselves in the place of their sizes."""
    layout = [
        {"step": one["step"], "problems": one["problems"], "group_sizes": [len(group) for group in one["groups"]]}
        for one in state
    ]
    return Waiting(layout, [rollout_of_json(values) for one in state for group in one["groups"] for values in group])


def _use_device(device: int | None) -> None:
    """A thread's current GPU is the first one until it is told otherwise."""
    if device is not None:
        torch.cuda.set_device(device)


def _in_order(groups: Sequence[list[Rollout]], mine: Sequence[Problem]) -> list[list[Rollout]]:
    """The groups of ``mine``, solutions first, as `RequestBuilder.requests` orders them."""
    found = {(group[0].path, group[0].problem_id): group for group in groups}
    keys = [(path, problem.id) for path in ("solution", "meta") for problem in mine]
    return [found[key] for key in keys if key in found]
