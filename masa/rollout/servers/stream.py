"""The stream of the server engine: requests are with servers as soon as they are submitted, each on a connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from masa.rollout.engine import Finished, Rollout, RolloutError, RolloutRequest
from masa.rollout.servers.completions import Stops, completed_rollout, completion_body
from masa.rollout.servers.dispatch import Dispatcher
from masa.rollout.servers.health import Fleet
from masa.rollout.servers.http_client import RequestRefusedError, ServerClient, ServerError, ServerRefusedError
from masa.rollout.statistics import EngineStatistics

_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Servers:
    """What a stream needs of its engine.

    Args:
        clients: the servers, by address.
        fleet: their health.
        model_name: what a server knows the policy as.
        stops: what ends a response.
        weight_version: of the weights that servers have.
        connections: the most requests that one server is given at a time.
        require: raises where there has been no server to use for too long.
    """

    clients: Mapping[str, ServerClient]
    fleet: Fleet
    model_name: Callable[[str], str]
    stops: Stops
    weight_version: int
    connections: int
    require: Callable[[], None]

    def may_work(self, address: str) -> bool:
        """Whether a server may be given work now."""
        return self.fleet[address].takes_work

    def complete(self, address: str, request: RolloutRequest, index: int, started: float) -> Rollout:
        """Sample ``index`` of ``request``, made by one server."""
        ids, texts = self.stops.ids, self.stops.texts
        body = completion_body(request, index, model=self.model_name(address), stop_ids=ids, stop_texts=texts)
        answer = self.clients[address].post("/v1/completions", body, timeout=None)
        seconds = time.perf_counter() - started
        return completed_rollout(request, index, answer, self.weight_version, seconds, stops=self.stops)


@dataclass(frozen=True)
class _Sample:
    number: int
    request: RolloutRequest
    index: int
    started: float


class ServerStream:
    """A `RolloutStream` over servers; what has ended waits in a queue, in the order in which it came.

    The order is that of the clock: whoever decides by what has ended must not decide by what ended first.
    """

    def __init__(self, servers: Servers, statistics: EngineStatistics) -> None:
        self._servers = servers
        self._statistics = statistics
        self._samples: list[_Sample] = []
        self._submitted = 0
        self._threads = 0
        self._lock = threading.Lock()
        self._making: dict[int, tuple[int, str]] = {}  # who makes a sample, and on which server
        self._dispatcher = Dispatcher(list(servers.clients), servers.may_work)
        self._working_since: float | None = None

    def submit(self, requests: Sequence[RolloutRequest]) -> range:
        if going_on := [one.problem_id for one in requests if any(one.begun)]:
            raise RolloutError(
                f"problem {going_on[0]!r}: a sample that was put aside cannot go on with a server, which would draw "
                "its tokens from the first random number again"
            )
        now = time.perf_counter()
        first = self._submitted
        self._submitted += len(requests)
        for number, request in enumerate(requests, first):
            self._samples += [_Sample(number, request, index, now) for index in range(len(request.seeds))]
        if requests and self._working_since is None:
            self._working_since = now
        self._dispatcher.add([len(request.seeds) for request in requests])
        threads = min(self._servers.connections, len(self._samples))
        for _ in range(threads - self._threads):
            for address in self._servers.clients:
                threading.Thread(target=self._work, args=(address,), daemon=True).start()
        self._threads = max(threads, self._threads)
        return range(first, self._submitted)

    def take(self) -> list[Finished]:
        while True:
            all_made = self._dispatcher.wait(_LOOK_EVERY)
            if news := self._dispatcher.news():
                break
            if all_made:
                return []
            self._servers.require()
        now = time.perf_counter()
        found = [(self._samples[place], rollout) for place, rollout in news]
        self._statistics.sampled([[rollout for _, rollout in found]], now - (self._working_since or now))
        self._working_since = None if all_made else now
        return [Finished(sample.number, sample.request, rollout) for sample, rollout in found]

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        """A server says nothing of a response before it has ended, so there is nothing to give."""
        theirs = {place for place, sample in enumerate(self._samples) if sample.number in numbers}
        self._dispatcher.cancel(theirs)
        self._cut(theirs)
        return []

    def __enter__(self) -> ServerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._dispatcher.wait(0.0):
            self._dispatcher.close()
            return
        self._dispatcher.abort(error or RolloutError("the stream was closed while it sampled"))
        self._cut(range(len(self._samples)))

    def _cut(self, places: Container[int]) -> None:
        """Break the connections on which these samples are being made; the servers then give them up."""
        with self._lock:
            for place, (thread, address) in self._making.items():
                if place in places:
                    self._servers.clients[address].cut([thread])

    def _work(self, address: str) -> None:
        """Make samples on one server until there are no more to come."""
        dispatcher = self._dispatcher
        while (place := dispatcher.take(address)) is not None:
            sample = self._samples[place]
            try:
                with self._noted(place, address):
                    rollout = self._servers.complete(address, sample.request, sample.index, sample.started)
            except Exception as error:
                if not dispatcher.is_cancelled(place):
                    self._failed(place, sample.request.problem_id, address, error)
            else:
                dispatcher.finish(place, rollout)

    @contextmanager
    def _noted(self, place: int, address: str) -> Iterator[None]:
        """Within it, this thread is who makes a sample."""
        with self._lock:
            self._making[place] = threading.get_ident(), address
        try:
            yield
        finally:
            with self._lock:
                del self._making[place]

    def _failed(self, place: int, problem_id: str, address: str, error: Exception) -> None:
        """A sample was not made: no server will, or this one is gone, or did not although it is there."""
        fleet = self._servers.fleet
        if isinstance(error, RequestRefusedError):
            self._dispatcher.abort(RolloutError(f"problem {problem_id!r}: {error}"))
            return
        if not isinstance(error, ServerError):
            self._dispatcher.abort(error)
            return
        if isinstance(error, ServerRefusedError):
            fleet.refused(address)
            self._dispatcher.give_back(place, address)
            return
        fleet.failed(address)
        failures = self._dispatcher.failed(place, address)
        if failures:
            message = f"no server could answer one request in {failures} attempts, the last failed with: {error}"
            self._dispatcher.abort(RolloutError(f"problem {problem_id!r}: {message}"))
