"""The processes of one run watch one another: where one dies, the others end instead of waiting for it for hours.

Each process holds a TCP connection to the first one. The kernel closes it when its process ends, however it ends, so
nothing has to be sent while all is well and a busy process is never taken for a dead one; TCP keepalive finds a machine
that has gone. The first process passes on what it learned to all others.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from masa.errors import brief

# What a process whose peer is gone is given to close what it has open; it may be stuck in a collective.
SECONDS_TO_CLOSE = 10.0
_SECONDS_TO_CONNECT = 60.0
_SECONDS_TO_HEAR = 2.0
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_BYE = "bye"
_FAILED = "failed: "
_LOST = "lost: "


class PeerLostError(RuntimeError):
    """Another process of the run has died; the message, which was printed once, names it."""


@dataclass
class _Peer:
    """One connection, and what has come over it."""

    connection: socket.socket
    name: str = ""
    received: bytes = b""
    last: str = ""
    trusted: bool = False

    def lines(self) -> list[str] | None:
        """Whole lines that have arrived; None at the end of the connection."""
        try:
            data = self.connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            return None
        *whole, self.received = (self.received + data).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


class PeerWatch:
    """A context manager around all that the processes of a run do together; alone it does nothing.

    All processes must enter it together. Leaving it with an exception tells the others why.

    Args:
        end: ends this process where it has not closed the watch in time; for tests.
        seconds_to_close: that time.
    """

    def __init__(self, *, end: Callable[[int], None] = os._exit, seconds_to_close: float = SECONDS_TO_CLOSE) -> None:
        self.lost: str | None = None
        self._end = end
        self._seconds_to_close = seconds_to_close
        self._closed = threading.Event()
        self._heard = threading.Event()
        self._complete = threading.Event()
        self._watched = False
        self._state = PartialState()
        self._listener: socket.socket | None = None
        self._peers: list[_Peer] = []

    def __enter__(self) -> PeerWatch:
        if self._state.num_processes > 1:
            first = self._state.process_index == 0
            if first:
                self._listener = socket.create_server(("", 0), backlog=self._state.num_processes)
            # The token keeps out whatever else may connect to an open port.
            port = self._listener.getsockname()[1] if self._listener else 0
            own = _own_name(self._state.process_index)
            port, token, name = broadcast_object_list([port, secrets.token_hex(16), own])
            if not first:
                self._peers = [_connect(int(port), str(token), own, str(name))]
            watching = self._watch_all if first else self._watch_first
            os.register_at_fork(after_in_child=self._forget)
            self._watched = True
            threading.Thread(target=watching, args=(str(token),), name="peer watch", daemon=True).start()
            if first and not self._complete.wait(_SECONDS_TO_CONNECT):
                raise RuntimeError(f"only {len(self._peers)} of {self._state.num_processes - 1} processes connected")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError) and self._watched:
            # A collective with a process that has died may fail before the watch has heard of it.
            self._heard.wait(_SECONDS_TO_HEAR)
        self._closed.set()
        if self.lost is None:
            said = _BYE if error is None else f"{_FAILED}{brief(error)}"
            for peer in list(self._peers):
                _send(peer, said)
        self._forget()
        if self.lost is not None and error is not None:
            raise PeerLostError(self.lost) from error

    def _forget(self) -> None:
        """Close the sockets, also in a child of `fork`, which would keep the connection alive after this process."""
        for one in [self._listener, *(peer.connection for peer in self._peers)]:
            if one is not None:
                one.close()

    def _watch_all(self, token: str) -> None:
        """On the first process: take connections, and tell everybody when one ends without a word."""
        assert self._listener is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed.is_set():
                for key, _ in selector.select(0.5):
                    if key.data is None:
                        self._accept(selector)
                    elif self._hear(key.data, token, selector):
                        return

    def _accept(self, selector: selectors.BaseSelector) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        _keep_alive(connection)
        selector.register(connection, selectors.EVENT_READ, _Peer(connection))

    def _hear(self, peer: _Peer, token: str, selector: selectors.BaseSelector) -> bool:
        """Take what a peer sent; whether it is lost."""
        lines = peer.lines()
        for line in lines or []:
            if peer.trusted:
                peer.last = line
            elif line.startswith(f"{token} "):
                peer.trusted, peer.name = True, line.removeprefix(f"{token} ")
                self._peers.append(peer)
                if len(self._peers) == self._state.num_processes - 1:
                    self._complete.set()
        if lines is not None and not peer.last.startswith(_FAILED):
            return False
        selector.unregister(peer.connection)
        if not peer.trusted or peer.last == _BYE or self._closed.is_set():
            return False
        self._lose(_account(peer.name, peer.last), announce=True)
        return True

    def _watch_first(self, token: str) -> None:
        """On all other processes: wait for what the first process says, or for its end."""
        first = self._peers[0]
        while (lines := first.lines()) is not None:
            first.last = lines[-1] if lines else first.last
            if first.last.startswith((_LOST, _FAILED)):
                break
        if self._closed.is_set() or first.last == _BYE:
            return
        if first.last.startswith(_LOST):
            self._lose(first.last.removeprefix(_LOST), announce=False)
        else:
            # Without the first process the next one on each machine has to say it.
            announces = self._state.process_index == 1 or self._state.local_process_index == 0
            self._lose(_account(first.name, first.last), announce=announces)

    def _lose(self, account: str, *, announce: bool) -> None:
        """End this process, with some time to close; ``account`` says what has happened."""
        failed = _FAILED in account
        if failed and self._closed.wait(self._seconds_to_close):
            # All processes met the same mistake and end by themselves.
            return
        self.lost = account
        self._heard.set()
        for peer in list(self._peers):
            _send(peer, f"{_LOST}{account}")
        if announce:
            print(f"masa: {account}; the other processes end", file=sys.stderr, flush=True)
        if not self._closed.wait(self._seconds_to_close):
            self._end(1)


def _account(name: str, last: str) -> str:
    if last.startswith(_FAILED):
        return f"{name} {last}"
    return f"{name} died (it was killed, crashed, or its machine is gone)"


def _own_name(rank: int) -> str:
    return f"process {rank} (pid {os.getpid()} on {socket.gethostname()})"


def _connect(port: int, token: str, name: str, first: str) -> _Peer:
    connection = socket.create_connection((os.environ["MASTER_ADDR"], port), timeout=_SECONDS_TO_CONNECT)
    connection.settimeout(None)
    _keep_alive(connection)
    connection.sendall(f"{token} {name}\n".encode())
    return _Peer(connection, name=first)


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _send(peer: _Peer, line: str) -> None:
    try:
        peer.connection.sendall(f"{line}\n".encode())
    except OSError:
        return  # it has gone itself
