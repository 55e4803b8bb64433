"""Sampling the rollouts of later steps while the policy is updated.

The batch of step s is sampled with the weights after step s - 1 - k, for ``k = async_steps``: exactly so, whatever
takes how long, and therefore repeatable. k = 1 already overlaps all that can overlap; a larger k makes rollouts older,
for studies of what age does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from masa.config import ConfigError
from masa.controls.batch import StepBatch
from masa.flow.saved_batches import load_batches, save_batches
from masa.problems import Problem
from masa.rollout.waiting import Waiting


def require_correction(steps_ahead: int, corrects: bool, *, partial: bool = False) -> None:
    """Rollouts of older weights need their importance weights; ``partial``: some may go on under later weights.

    Raises:
        ConfigError: there are such rollouts and the loss does not correct for them.
    """
    if partial and not corrects:
        raise ConfigError(
            "rollout.partial: found true, allowed without importance weights: false; set algorithm.tis_cap, for "
            "example to 2, or algorithm.correction"
        )
    if steps_ahead and not corrects:
        raise ConfigError(
            f"rollout.async_steps: found {steps_ahead}, allowed without importance weights: 0; "
            "set algorithm.tis_cap, for example to 2, or algorithm.correction"
        )


class RolloutsAhead:
    """Batches of rollouts, step by step, sampled at most ``steps_ahead`` steps before they are taken.

    A step is begun and ended by whoever calls `take` and `wait`; between the two it is sampled by a thread, one step
    after the other. It begins when the one before has ended, for what that has left over is drawn first, and with the
    controls of that moment: those of the weights that it is sampled with. With ``steps_ahead`` 0 there is no thread.

    Args:
        sample: makes the batch of a step from what ``begin`` gave; called for one step after the other.
        steps_ahead: how many steps to sample ahead (k).
        last_step: nothing is sampled for steps after it.
        begin: what ``sample`` is given for a step.
        finish: the batch, from what ``begin`` and ``sample`` gave.
    """

    def __init__(
        self,
        sample: Callable[[Any], Any],
        steps_ahead: int,
        last_step: int,
        *,
        begin: Callable[[int], Any] = lambda step: step,
        finish: Callable[[Any, Any], StepBatch] = lambda begun, sampled: sampled,
    ) -> None:
        self._sample = sample
        self._begin = begin
        self._finish = finish
        self._steps_ahead = steps_ahead
        self._last_step = last_step
        self._sampling: dict[int, tuple[Any, Future[Any]]] = {}
        self._ready: dict[int, StepBatch] = {}
        self._executor: ThreadPoolExecutor | None = None
        if steps_ahead:
            on_this_device = partial(_use_device, torch.cuda.current_device() if torch.cuda.is_available() else None)
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="masa-rollouts", initializer=on_this_device)

    def take(self, step: int) -> StepBatch:
        """The batch of ``step``; those of the next ``steps_ahead`` steps are being sampled from now on.

        Raises:
            Exception: whatever sampling this batch, or one that comes before one of the next, raised.
        """
        if self._executor is None:
            begun = self._begin(step)
            return self._finish(begun, self._sample(begun))
        for number in range(step, min(step + self._steps_ahead, self._last_step) + 1):
            if number not in self._ready and number not in self._sampling:
                self.wait()
                begun = self._begin(number)
                self._sampling[number] = begun, self._executor.submit(self._sample, begun)
        if step not in self._ready:
            self.wait()
        return self._ready.pop(step)

    def wait(self) -> None:
        """Return when nothing is being sampled: now the engine may take weights. All processes call it together.

        Raises:
            Exception: whatever sampling raised.
        """
        for number, (begun, future) in sorted(self._sampling.items(), key=lambda one: one[0]):
            self._ready[number] = self._finish(begun, future.result())
            del self._sampling[number]

    def state(self) -> Waiting:
        """The batches that have been sampled and not taken, for a checkpoint (`masa.flow.saved_batches`)."""
        self.wait()
        return save_batches(self._ready)

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
        self._ready = load_batches(states, {problem.id: problem for problem in problems}, share)

    def close(self) -> None:
        """Sample nothing more; what is being sampled ends when its engine is closed."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _use_device(device: int | None) -> None:
    """A thread's current GPU is the first one until it is told otherwise."""
    if device is not None:
        torch.cuda.set_device(device)
