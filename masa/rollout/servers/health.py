"""Which servers may be given work: a state machine over what was observed when, without clocks or sockets of its own.

::

    healthy --failed--> suspect --silent for `patience`--> dead --answered--> rejoining --updated--> healthy
       ^                   |                                ^                    |
       +-----answered------+                                +-------failed-------+

A server that answers with other weights than the current ones has been started anew: it is rejoining from any state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

ServerState = Literal["healthy", "suspect", "dead", "rejoining"]


@dataclass(frozen=True)
class ServerHealth:
    """What is known of one server; times are seconds of the caller's clock.

    ``patience`` is how long a server may be silent before it counts as dead, ``since`` when the state began.
    """

    state: ServerState
    since: float
    patience: float

    def answered(self, now: float, *, current: bool) -> ServerHealth:
        """It answered; ``current`` says whether with the weights that the engine expects of it."""
        if not current:
            return self._to("rejoining", now)
        return self._to("healthy", now) if self.state == "suspect" else self._after_silence(now)

    def failed(self, now: float) -> ServerHealth:
        """It did not answer, or with an error."""
        if self.state == "healthy":
            return self._to("suspect", now)
        if self.state == "rejoining" or (self.state == "suspect" and now - self.since >= self.patience):
            return self._to("dead", now)
        return self

    def refused(self, now: float) -> ServerHealth:
        """Nothing listens at its address: its process has ended."""
        return self._to("dead", now)

    def updated(self, now: float) -> ServerHealth:
        """It has taken the current weights."""
        return self._to("healthy", now)

    def update_failed(self, now: float) -> ServerHealth:
        """It may hold half of an update, so it must not be given work before the next."""
        return self._to("dead", now)

    @property
    def takes_work(self) -> bool:
        return self.state == "healthy"

    @property
    def takes_weights(self) -> bool:
        """A suspect server is tried as well: it may only have been slow."""
        return self.state != "dead"

    def _after_silence(self, now: float) -> ServerHealth:
        # Whether a dead server kept its weights cannot be told from their version alone: an update may have passed it.
        return self._to("rejoining", now) if self.state == "dead" else self

    def _to(self, state: ServerState, now: float) -> ServerHealth:
        return self if state == self.state else replace(self, state=state, since=now)


class Fleet:
    """The health of several servers, by address, under an injected clock.

    Args:
        addresses: the servers; they have no weights yet, so they begin as rejoining.
        clock: seconds, never going back.
        patience: see `ServerHealth`.
    """

    def __init__(self, addresses: Iterable[str], clock: Callable[[], float], patience: float) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        now = clock()
        self._servers = {address: ServerHealth("rejoining", now, patience) for address in addresses}
        self._usable_until = now

    def __getitem__(self, address: str) -> ServerHealth:
        return self._servers[address]

    def answered(self, address: str, *, current: bool) -> ServerHealth:
        return self._change(address, lambda server, now: server.answered(now, current=current))

    def failed(self, address: str) -> ServerHealth:
        return self._change(address, ServerHealth.failed)

    def refused(self, address: str) -> ServerHealth:
        return self._change(address, ServerHealth.refused)

    def updated(self, address: str) -> ServerHealth:
        return self._change(address, ServerHealth.updated)

    def update_failed(self, address: str) -> ServerHealth:
        return self._change(address, ServerHealth.update_failed)

    def working(self) -> list[str]:
        """The servers that may be given work."""
        return [address for address, server in self._servers.items() if server.takes_work]

    def updatable(self) -> list[str]:
        """The servers that are to be given weights."""
        return [address for address, server in self._servers.items() if server.takes_weights]

    def idle_seconds(self) -> float:
        """For how long no server has taken work; 0 while one does."""
        now = self._clock()
        if self.working():
            self._usable_until = now
        return now - self._usable_until

    def describe(self) -> str:
        """One phrase for messages: each server and its state."""
        return ", ".join(f"{address} {server.state}" for address, server in self._servers.items())

    def _change(self, address: str, change: Callable[[ServerHealth, float], ServerHealth]) -> ServerHealth:
        with self._lock:
            self.idle_seconds()
            self._servers[address] = change(self._servers[address], self._clock())
            return self._servers[address]
