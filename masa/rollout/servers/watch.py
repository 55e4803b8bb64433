"""Watching servers: a thread for each sees whether it is there, and brings it back when it has been away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from masa.rollout.servers.health import Fleet
from masa.rollout.servers.http_client import ServerClient, ServerError, ServerRefusedError
from masa.rollout.servers.launch import StartedServers
from masa.rollout.servers.metrics import ServerMetrics
from masa.rollout.statistics import EngineStatistics

_LOOK_EVERY = 0.5
_ANSWER_WITHIN = 5.0


class Watch:
    """What each server was seen to do goes to ``fleet``, which decides what it may be given.

    Args:
        clients: the servers, by address.
        fleet: their health.
        started: those among them that were started here: one that has ended, or hangs, is started again.
        bring_back: gives a server that has returned the weights that were sent last, and says whether it could; None
            in all processes but the first, where servers are seen to work once they show the label.
        patience: seconds a server that was started here may be silent beyond its death before it is started again.
        clock: seconds, never going back.
        statistics: what servers say of their queues and caches.
    """

    def __init__(
        self,
        clients: Mapping[str, ServerClient],
        fleet: Fleet,
        started: StartedServers,
        *,
        bring_back: Callable[[ServerClient], bool] | None,
        patience: float,
        clock: Callable[[], float],
        statistics: EngineStatistics,
    ) -> None:
        self.label = ""
        """The weights that servers are expected to have; empty before the first update."""
        self._clients = clients
        self._fleet = fleet
        self._started = started
        self._bring_back = bring_back
        self._patience = patience
        self._clock = clock
        self._statistics = statistics
        self._metrics = {address: ServerMetrics() for address in clients}
        self._looking = {address: threading.Lock() for address in clients}
        self._silent_since: dict[str, float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        for address in self._clients:
            threading.Thread(target=self._watch, args=(address,), daemon=True, name=f"masa-{address}").start()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    def wait(self) -> None:
        """Until servers have been looked at once more, about."""
        self._stopping.wait(_LOOK_EVERY)

    @contextmanager
    def nobody_looks(self) -> Iterator[None]:
        """While weights change, servers have neither the old nor the new ones."""
        with ExitStack() as stack:
            for lock in self._looking.values():
                stack.enter_context(lock)
            yield

    def read_metrics(self, address: str) -> None:
        """Add what a server has counted since the last time to the statistics.

        Raises:
            ServerError: it does not answer.
        """
        text = self._clients[address].get("/metrics", timeout=_ANSWER_WITHIN)
        self._metrics[address].read(str(text), self._statistics)

    def _watch(self, address: str) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            with self._looking[address]:
                try:
                    self._look(address)
                except ServerRefusedError:
                    self._silent_since.pop(address, None)
                    self._fleet.refused(address)
                    process = self._started.get(address)
                    if process is not None:
                        process.restart_if_ended()
                except ServerError:
                    self._fleet.failed(address)
                    self._restart_if_it_hangs(address)
            if self._fleet[address].state == "dead":
                self._clients[address].cut()

    def _look(self, address: str) -> None:
        client = self._clients[address]
        client.get("/health", timeout=_ANSWER_WITHIN)
        self._silent_since.pop(address, None)
        info = client.get("/weight_info", timeout=_ANSWER_WITHIN)
        current = info["weight_version"] == self.label
        health = self._fleet.answered(address, current=current)
        if health.takes_work:
            self._metrics[address].look(str(client.get("/metrics", timeout=_ANSWER_WITHIN)), self._statistics)
        if health.state != "rejoining" or not self.label:
            return
        if self._bring_back is not None:
            if self._bring_back(client):
                self._fleet.updated(address)
        elif current and not client.get("/is_paused", timeout=_ANSWER_WITHIN)["is_paused"]:
            # The first process has given it the weights; the label shows a moment before it takes requests again.
            self._fleet.updated(address)

    def _restart_if_it_hangs(self, address: str) -> None:
        """A server may wait for ever in a broadcast that broke off; one that was started here can be helped."""
        process = self._started.get(address)
        now = self._clock()
        silent = now - self._silent_since.setdefault(address, now)
        if process is not None and self._fleet[address].state == "dead" and silent >= 2 * self._patience:
            del self._silent_since[address]
            process.restart()
