"""Sharing samples out to servers, so that each is made once, whatever servers die meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from masa.rollout.engine import Rollout

_MOST_FAILURES = 5


class Dispatcher:
    """Hands out the numbers of samples; what a failed server leaves behind goes to the others.

    The samples of one prompt go to one server, whose cache then holds the prompt; a server that has run out of its own
    takes over from the one that has most left. A server gets a sample that it has failed at only while no other works
    that has not.

    Threads sleep until there is something for them: samples that were added or came back, the end, or a server whose
    state has changed, which `wait` looks for on behalf of all of them.

    Args:
        servers: whom to share samples out to.
        may_work: whether a server may be given work now.
    """

    def __init__(self, servers: Sequence[str], may_work: Callable[[str], bool]) -> None:
        self.results: list[Rollout | None] = []
        self._open = 0
        self._news: list[int] = []
        self._may_work = may_work
        self._may_grow = True
        self._cancelled: set[int] = set()
        self._queues: dict[str, deque[int]] = {server: deque() for server in servers}
        self._failures: dict[int, list[str]] = {}
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # what threads that make samples wait for
        self._told = threading.Condition(lock)  # what `wait` waits for
        self._error: BaseException | None = None
        self._working: list[str] = []

    def add(self, groups: Sequence[int]) -> None:
        """Samples of further requests, each of which has so many; samples are numbered through."""
        with self._changed:
            for size in groups:
                target = min(self._queues.values(), key=len)
                target.extend(range(len(self.results), len(self.results) + size))
                self.results += [None] * size
                self._open += size
            self._changed.notify_all()

    def cancel(self, samples: Iterable[int]) -> None:
        """Nobody is to make these samples any more; a result that still comes, or was not asked for yet, is dropped."""
        with self._changed:
            cancelled = set(samples)
            self._open -= sum(self.results[one] is None for one in cancelled - self._cancelled)
            self._cancelled |= cancelled
            self._news = [sample for sample in self._news if sample not in cancelled]
            for queue in self._queues.values():
                kept = [sample for sample in queue if sample not in cancelled]
                queue.clear()
                queue.extend(kept)
            self._changed.notify_all()
            self._told.notify()

    def is_cancelled(self, sample: int) -> bool:
        """Whether nobody is to make ``sample`` any more."""
        with self._changed:
            return sample in self._cancelled

    def close(self) -> None:
        """Nothing is added any more."""
        with self._changed:
            self._may_grow = False
            self._changed.notify_all()

    def take(self, server: str) -> int | None:
        """The next sample for ``server``; waits while there is none. None: there will be no more."""
        with self._changed:
            while (self._open or self._may_grow) and self._error is None:
                if self._may_work(server):
                    for queue, sample in self._candidates(server):
                        if self._may_make(server, sample):
                            queue.remove(sample)
                            return sample
                elif server in self._working:
                    # It may work again before `wait` looks, which is to see that something has changed.
                    self._working.remove(server)
                self._changed.wait()
            return None

    def finish(self, sample: int, rollout: Rollout) -> None:
        """``sample`` has been made; a second result of the same sample is ignored."""
        with self._changed:
            if self.results[sample] is None and sample not in self._cancelled:
                self.results[sample] = rollout
                self._open -= 1
                self._news.append(sample)
                self._told.notify()
                if not self._open:
                    self._changed.notify_all()

    def give_back(self, sample: int, server: str) -> None:
        """``server`` is gone: another one is to make ``sample``."""
        with self._changed:
            if sample not in self._cancelled:
                self._queues[server].appendleft(sample)
            self._changed.notify_all()
            self._told.notify()

    def failed(self, sample: int, server: str) -> int:
        """``server`` is there and failed to make ``sample``: another one is to.

        Returns:
            0, or how often it has failed if it has on every server that works, and often enough to leave it.
        """
        with self._changed:
            failures = self._failures.setdefault(sample, [])
            failures.append(server)
            self.give_back(sample, server)
            hopeless = len(failures) >= _MOST_FAILURES and not self._others(server, failures)
            return len(failures) if hopeless else 0

    def abort(self, error: BaseException) -> None:
        """Let all waiting threads go; `wait` raises ``error``."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
            self._told.notify()

    def news(self) -> list[tuple[int, Rollout]]:
        """The samples that have been made since the last call, in that order."""
        with self._changed:
            news, self._news = self._news, []
            return [(sample, rollout) for sample in news if (rollout := self.results[sample]) is not None]

    def wait(self, seconds: float) -> bool:
        """Whether all samples are made, once there is news or after ``seconds``; to be called until they are.

        Threads that wait for their server, or for another one to fail, go on when servers work that did not, or the
        other way round.

        Raises:
            BaseException: the error of `abort`.
        """
        with self._changed:
            if self._open and self._error is None and not self._news:
                self._told.wait(seconds)
            working = [server for server in self._queues if self._may_work(server)]
            if working != self._working:
                self._working = working
                self._changed.notify_all()
            if self._error is not None:
                raise self._error
            return not self._open

    def _candidates(self, server: str) -> Iterator[tuple[deque[int], int]]:
        """What is left to make: the server's own from the front, then from the end of the longest queues."""
        own = self._queues[server]
        yield from ((own, sample) for sample in own)
        others = [queue for queue in self._queues.values() if queue is not own]
        for queue in sorted(others, key=len, reverse=True):
            yield from ((queue, sample) for sample in reversed(queue))

    def _may_make(self, server: str, sample: int) -> bool:
        failures = self._failures.get(sample, [])
        return server not in failures or not self._others(server, failures)

    def _others(self, server: str, failures: Sequence[str]) -> bool:
        """Whether another server works that has not failed yet."""
        return any(one != server and one not in failures and self._may_work(one) for one in self._queues)
