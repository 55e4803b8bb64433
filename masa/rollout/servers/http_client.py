"""Talking to one vLLM server over HTTP: JSON in and out, connections kept open, and cut from another thread."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit


class ServerError(RuntimeError):
    """A server did not answer, or not with what was asked for."""


class ServerRefusedError(ServerError):
    """Nothing listens at the server's address."""


class RequestRefusedError(ServerError):
    """The server understood a request and will never fulfil it (HTTP 4xx)."""


class ServerClient:
    """One server; safe to use from many threads. Connections are kept for whoever calls next."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"server address {address!r}: written like http://host:8000")
        self.address = address
        self.host = parts.hostname
        self.port = parts.port or 80
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: dict[http.client.HTTPConnection, int] = {}  # by whom: the identity of a thread
        self._lock = threading.Lock()

    def get(self, path: str, *, timeout: float | None) -> Any:
        """The JSON (or text) that ``path`` answers with; ``timeout`` in seconds for each wait.

        Raises:
            ServerError: as `post`.
        """
        return self._call("GET", path, None, timeout)

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, timeout: float | None) -> Any:
        """The answer to ``body``, sent as JSON.

        Raises:
            ServerRefusedError: nothing listens there.
            RequestRefusedError: the request itself is at fault.
            ServerError: the connection broke, timed out, or the server had an error.
        """
        return self._call("POST", path, body, timeout)

    def cut(self, threads: Collection[int] | None = None) -> None:
        """Break all connections, so that threads that wait for an answer get an error; or those of some threads.

        Args:
            threads: the identities (`threading.get_ident`) of those threads; None: all, and idle connections as well.
        """
        with self._lock:
            cut = [one for one, thread in self._busy.items() if threads is None or thread in threads]
            for connection in cut:
                del self._busy[connection]
        for connection in cut:
            if connection.sock is not None:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        if threads is None:
            self._close_idle()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float | None) -> Any:
        payload = None if body is None else json.dumps(body)
        response, content = self._exchange(method, path, payload, timeout)
        if response.status >= 400:
            kind = RequestRefusedError if response.status in (400, 404, 413, 422) else ServerError
            raise kind(f"{self.address}{path}: HTTP {response.status}: {content[:300].decode(errors='replace')}")
        if response.getheader("Content-Type", "").startswith("application/json"):
            return json.loads(content)
        return content.decode(errors="replace")

    def _exchange(
        self, method: str, path: str, payload: str | None, timeout: float | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection, reused = self._take(timeout)
        try:
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except ConnectionRefusedError as error:
            self._drop(connection)
            raise ServerRefusedError(f"{self.address}: nothing listens there") from error
        except (OSError, http.client.HTTPException) as error:
            was_cut = self._drop(connection)
            if reused and not was_cut and isinstance(error, ConnectionError):
                # Servers close connections that were idle for long; whether this was one shows on a fresh connection.
                self._close_idle()
                return self._exchange(method, path, payload, timeout)
            raise ServerError(f"{self.address}{path}: {type(error).__name__} {error}".rstrip()) from error
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)
        return response, content

    def _take(self, timeout: float | None) -> tuple[http.client.HTTPConnection, bool]:
        """A connection that nobody else uses, and whether it has been used before."""
        with self._lock:
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else http.client.HTTPConnection(self.host, self.port)
            self._busy[connection] = threading.get_ident()
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection, reused

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            kept = self._busy.pop(connection, None) is not None and connection.sock is not None
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def _drop(self, connection: http.client.HTTPConnection) -> bool:
        """Close a connection that failed; whether that was because of `cut`."""
        with self._lock:
            was_cut = self._busy.pop(connection, None) is None
        connection.close()
        return was_cut

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
