"""Verdicts on solutions that have ended while others are still being sampled."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from masa.rewards.verdict import Verdict
from masa.rollout.engine import Rollout

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Early:
    """A solution's text, and its verdict when there is one."""

    text: str
    verdict: Future[Verdict]


class EarlyVerdicts:
    """Has solutions verified as they come, by threads of its own; each takes at a time what has come since.

    Verdicts do not depend on when they are asked for, so neither do rewards.

    Args:
        verify: one verdict an item, in order; called by these threads.
        threads: how many; with more than one, an answer that takes long keeps fewer others waiting.
    """

    def __init__(self, verify: Callable[[Sequence[Item]], Sequence[Verdict]], threads: int = 1) -> None:
        self.seconds = 0.0
        """For how long ``verify`` has worked, once or several times at a time."""
        self._verify = verify
        self._at_work = 0
        self._working_since = 0.0
        self._found: defaultdict[tuple[str, Sequence[int]], deque[Early]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Item, Future[Verdict]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"masa-early-verdicts-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, rollout: Rollout, text: str, item: Item) -> None:
        """Have ``item`` verified, which asks about ``rollout`` and its ``text``."""
        early = Early(text, Future())
        with self._lock:
            self._found[rollout.problem_id, rollout.token_ids].append(early)
        self._queue.put((item, early.verdict))

    def take(self, rollout: Rollout) -> Early | None:
        """What was begun for a rollout of this problem with these tokens, once; None where nothing was."""
        with self._lock:
            found = self._found.get((rollout.problem_id, rollout.token_ids))
            return found.popleft() if found else None

    def close(self) -> None:
        """Begin nothing more; what has begun is finished."""
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while True:
            batch = [self._queue.get()]
            try:
                while batch[-1] is not None:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            self._settle([one for one in batch if one is not None])
            if batch[-1] is None:
                return

    def _settle(self, batch: Sequence[tuple[Item, Future[Verdict]]]) -> None:
        if not batch:
            return
        self._note(1)
        try:
            for (_, future), verdict in zip(batch, self._verify([item for item, _ in batch]), strict=True):
                future.set_result(verdict)
        except BaseException as error:  # it belongs to whoever waits for the verdicts
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        self._note(-1)

    def _note(self, more: int) -> None:
        """One thread more is at work, or one less."""
        with self._lock:
            now = time.perf_counter()
            if self._at_work:
                self.seconds += now - self._working_since
            self._working_since = now
            self._at_work += more
