"""Getting weights into servers: vLLM's weight-transfer routes inside a pause, and the bytes through files.

All servers are updated together. One that fails is left out of the rest, and named in the result.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from masa.rollout.servers.http_client import ServerClient, ServerError

if TYPE_CHECKING:
    pass

FILE_BACKEND = "masa_file"


class Transfer(Protocol):
    """A way for the bytes."""

    keeps_weights: bool
    """Whether `send_again` can work: what was sent last is still there."""

    def send(
        self, clients: Sequence[ServerClient], weights: Iterable[tuple[str, Tensor]], label: str
    ) -> dict[str, ServerError]:
        """Update all servers to ``weights``, known as ``label`` from then on; what failed, by address."""
        ...

    def send_again(self, client: ServerClient) -> bool:
        """Update one server to what was sent last; False where that is gone.

        Raises:
            ServerError: it failed.
        """
        ...

    def close(self) -> None:
        """Give back what the transfers hold."""
        ...


class FileTransfer:
    """Weights go through files in ``folder``, which servers and trainer both see; kept until the next update.

    Memory holds one part of at most ``bucket_bytes`` at a time (or one larger tensor).
    """

    keeps_weights = True

    def __init__(self, folder: Path, *, bucket_bytes: int, timeout: float) -> None:
        self._folder = folder
        self._bucket_bytes = bucket_bytes
        self._timeout = timeout
        self._kept: list[Path] = []
        self._label: str | None = None

    def send(
        self, clients: Sequence[ServerClient], weights: Iterable[tuple[str, Tensor]], label: str
    ) -> dict[str, ServerError]:
        from safetensors.torch import save_file

        for path in self._kept:
            path.unlink(missing_ok=True)
        self._kept, self._label = [], None
        servers = Together(clients)
        servers.each(self._begin)
        for number, bucket in enumerate(buckets(weights, self._bucket_bytes)):
            path = self._folder / f"{label}-{number:04d}.safetensors"
            save_file(bucket, path)
            self._kept.append(path)
            servers.each(partial(self._load, path))
        self._label = label
        servers.each(lambda client: end_update(client, label, self._timeout))
        return servers.failures

    def send_again(self, client: ServerClient) -> bool:
        if self._label is None:
            return False
        self._begin(client)
        for path in self._kept:
            self._load(path, client)
        end_update(client, self._label, self._timeout)
        return True

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, client: ServerClient) -> None:
        pause(client, self._timeout)
        begin_update(client, self._timeout)

    def _load(self, path: Path, client: ServerClient) -> None:
        client.post("/update_weights", {"update_info": {"path": str(path)}}, timeout=self._timeout)


class Together:
    """The same call to several servers at once; those that fail are left out from then on."""

    def __init__(self, clients: Sequence[ServerClient]) -> None:
        self.clients = list(clients)
        self.failures: dict[str, ServerError] = {}

    def each(self, call: Callable[[ServerClient], Any]) -> None:
        with self.meanwhile(call):
            return

    def meanwhile(self, call: Callable[[ServerClient], Any]) -> Meanwhile:
        """The calls run in the background of a ``with`` block."""
        return Meanwhile(self, call)

    def leave_out(self, clients: Iterable[ServerClient], error: ServerError) -> None:
        """Count ``clients`` as failed, those that have not failed before by ``error``."""
        for client in list(clients):
            self.failures.setdefault(client.address, error)
            if client in self.clients:
                self.clients.remove(client)


class Meanwhile:
    """The calls of `Together.meanwhile`, while they run."""

    def __init__(self, together: Together, call: Callable[[ServerClient], Any]) -> None:
        self._together = together
        self._call = call

    def __enter__(self) -> Meanwhile:
        self._executor = ThreadPoolExecutor(max_workers=max(1, len(self._together.clients)))
        self._futures = {client: self._executor.submit(self._call, client) for client in self._together.clients}
        return self

    def failed(self) -> bool:
        """Whether one of the calls has ended with an error."""
        return any(future.done() and future.exception() is not None for future in self._futures.values())

    def __exit__(self, *_: object) -> None:
        for client, future in self._futures.items():
            error = future.exception()
            if isinstance(error, ServerError):
                self._together.leave_out([client], error)
            elif error is not None:
                raise error
        self._executor.shutdown()


def pause(client: ServerClient, timeout: float) -> None:
    """Let the server end what it samples, and begin nothing new."""
    client.post("/pause?mode=wait", timeout=timeout)


def begin_update(client: ServerClient, timeout: float) -> None:
    """Open an update of a paused server."""
    try:
        client.post("/start_weight_update", timeout=timeout)
    except ServerError:
        # An update that broke off is still open: end it, its weights are about to be replaced.
        client.post("/finish_weight_update", {}, timeout=timeout)
        client.post("/start_weight_update", timeout=timeout)


def end_update(client: ServerClient, label: str, timeout: float) -> None:
    """Drop cached prefixes before the new label shows: who sees the label may rely on both."""
    client.post("/reset_prefix_cache", timeout=timeout)
    client.post("/finish_weight_update", {"weight_version": label}, timeout=timeout)
    client.post("/resume", timeout=timeout)


def buckets(
    weights: Iterable[tuple[str, Tensor]], bucket_bytes: int, device: str | None = "cpu"
) -> Iterator[dict[str, Tensor]]:
    """Copies of the tensors, at most ``bucket_bytes`` at a time; on their own device where ``device`` is None."""
    bucket: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        tensor = tensor.detach()
        needed = tensor.numel() * tensor.element_size()
        if bucket and size + needed > bucket_bytes:
            yield bucket
            bucket, size = {}, 0
        bucket[name] = tensor.to(device or tensor.device, copy=True).contiguous()
        size += needed
    if bucket:
        yield bucket
