"""The stream of the vLLM engine in this process, and its second try where the engine fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from masa.errors import brief
from masa.rollout.engine import Finished, RolloutError, RolloutRequest
from masa.rollout.statistics import EngineStatistics


class Batch(Protocol):
    """What is being sampled (`masa.rollout.vllm.sampling.VllmBatch`)."""

    def advance(self, requests: Sequence[RolloutRequest]) -> list[Finished]: ...

    def cancel(self, numbers: Collection[int]) -> list[Finished]: ...

    def abort(self) -> None: ...


@dataclass(frozen=True)
class _Moment:
    """What was submitted before a call of `take`, and the numbers of all requests that had been cancelled by then."""

    requests: Sequence[RolloutRequest]
    cancelled: frozenset[int]


@dataclass(frozen=True)
class Engine:
    """What a stream needs of its engine.

    Args:
        begin: an empty batch of an engine that is awake and has forgotten all prefixes.
        rebuild: the engine once more, with the weights that it had.
        lost: says that there is no engine any more.
        require: raises where a request cannot be sampled.
        undisturbed: within it, the engine changes nothing of the process.
        in_use: held as long as the stream is open.
        closing: set by another thread when what is being sampled is to be given up.
    """

    begin: Callable[[], Batch]
    rebuild: Callable[[], None]
    lost: Callable[[], None]
    require: Callable[[Sequence[RolloutRequest]], None]
    undisturbed: Callable[[], AbstractContextManager[None]]
    in_use: threading.RLock
    closing: threading.Event


class VllmStream:
    """A `RolloutStream` that lets vLLM's engine work inside of `take`.

    After a failure the engine is built once more and does again what it has done since the stream began: the same
    requests at the same moments, so the same rollouts. Those that have been taken are not given again, and where the
    new engine makes them in another order (its kernels may differ in the last bit) none is lost.
    """

    def __init__(self, engine: Engine, statistics: EngineStatistics) -> None:
        self._engine = engine
        self._statistics = statistics
        self._batch: Batch | None = None
        self._submitted = 0
        self._coming: list[RolloutRequest] = []
        self._cancelled: set[int] = set()
        self._history: list[_Moment] = []  # of each call of `take`
        self._given: set[tuple[int, int]] = set()  # number and index of all that has been taken
        self._failed = ""

    def submit(self, requests: Sequence[RolloutRequest]) -> range:
        self._engine.require(requests)
        first = self._submitted
        self._submitted += len(requests)
        self._coming += requests
        return range(first, self._submitted)

    def take(self) -> list[Finished]:
        if not self._submitted:
            return []
        started = time.perf_counter()
        self._history.append(_Moment(self._coming, frozenset(self._cancelled)))
        self._coming = []
        found = self._advance_or_rebuild()
        self._given |= {_key(one) for one in found}
        self._statistics.sampled([[one.rollout for one in found]], time.perf_counter() - started)
        return found

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        self._cancelled |= set(numbers)
        found = [] if self._batch is None else self._batch.cancel(numbers)
        # What has not come to the engine goes there all the same, and is cancelled there: numbers stay what they are.
        first = self._submitted - len(self._coming)
        coming = [(number, one) for number, one in enumerate(self._coming, first) if number in numbers]
        found += [Finished(number, one, begun) for number, one in coming for begun in one.begun if begun is not None]
        return found

    def __enter__(self) -> VllmStream:
        self._engine.in_use.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._batch is not None:
                self._batch.abort()
        finally:
            self._batch = None
            self._engine.in_use.release()

    def _advance_or_rebuild(self) -> list[Finished]:
        try:
            return self._again() if self._batch is None else self._advance(self._history[-1])
        except Exception as error:
            self._batch = None
            if self._engine.closing.is_set():
                raise
            failure = brief(error)
        # Not while the error is held: its traceback keeps the old engine's memory.
        if self._failed:
            raise self._given_up(failure)
        self._failed = failure
        try:
            self._engine.rebuild()
            return self._again()
        except Exception as error:
            self._batch = None
            raise self._given_up(brief(error)) from error

    def _given_up(self, failure: str) -> RolloutError:
        self._engine.lost()
        return RolloutError(
            f"the vLLM engine failed ({self._failed}), was built again, and failed again ({failure}); "
            "resume the run from its last checkpoint"
        )

    def _again(self) -> list[Finished]:
        """All that was done since the stream began; what it gives that has not been taken."""
        self._batch = self._engine.begin()
        found: list[Finished] = []
        *earlier, newest = self._history
        for moment in earlier:
            found += self._new(self._step(moment))
        # Nothing more is asked for than before the failure, unless that gives what was taken then.
        return found + self._new(self._step(newest)) or self._advance(_Moment((), newest.cancelled))

    def _advance(self, moment: _Moment) -> list[Finished]:
        """What ends next, of what has not been taken."""
        while ended := self._step(moment):
            if found := self._new(ended):
                return found
            moment = _Moment((), moment.cancelled)
        return []

    def _step(self, moment: _Moment) -> list[Finished]:
        assert self._batch is not None
        with self._engine.undisturbed():
            if moment.cancelled:
                self._batch.cancel(moment.cancelled)
            return self._batch.advance(moment.requests)

    def _new(self, ended: Sequence[Finished]) -> list[Finished]:
        return [one for one in ended if _key(one) not in self._given and one.number not in self._cancelled]


def _key(one: Finished) -> tuple[int, int]:
    return one.number, one.rollout.index
