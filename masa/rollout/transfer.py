"""Getting weights into servers: vLLM's weight-transfer routes inside a pause, and two ways for the bytes.

All servers are updated together. One that fails is left out of the rest, and named in the result.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from masa.rollout.http_client import ServerClient, ServerError

FILE_BACKEND = "masa_file"


class Transfer(Protocol):
    """A way for the bytes."""

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


class FileTransfer:
    """Weights go through files in ``folder``, which servers and trainer both see; kept until the next update.

    Memory holds one part of at most ``bucket_bytes`` at a time (or one larger tensor).
    """

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
        servers = _Together(clients)
        servers.each(lambda client: _begin(client, self._timeout))
        for number, bucket in enumerate(_buckets(weights, self._bucket_bytes)):
            path = self._folder / f"{label}-{number:04d}.safetensors"
            save_file(bucket, path)
            self._kept.append(path)
            servers.each(partial(self._load, path))
        self._label = label
        servers.each(lambda client: _end(client, label, self._timeout))
        return servers.failures

    def send_again(self, client: ServerClient) -> bool:
        if self._label is None:
            return False
        _begin(client, self._timeout)
        for path in self._kept:
            self._load(path, client)
        _end(client, self._label, self._timeout)
        return True

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _load(self, path: Path, client: ServerClient) -> None:
        client.post("/update_weights", {"update_info": {"path": str(path)}}, timeout=self._timeout)


class NcclTransfer:
    """Weights go from the trainer's GPU to those of the servers by NCCL broadcasts, one tensor after the other.

    The group has the trainer as rank 0 and then all workers of all servers; it is formed anew when the servers change.
    """

    def __init__(self, *, bucket_bytes: int, timeout: float) -> None:
        self._bucket_bytes = bucket_bytes
        self._timeout = timeout
        self._group: Any = None
        self._members: tuple[str, ...] = ()

    def send(
        self, clients: Sequence[ServerClient], weights: Iterable[tuple[str, Tensor]], label: str
    ) -> dict[str, ServerError]:
        servers = _Together(clients)
        servers.each(lambda client: _begin(client, self._timeout, start=False))
        self._join(servers)
        servers.each(lambda client: client.post("/start_weight_update", timeout=self._timeout))
        for bucket in _buckets(weights, self._bucket_bytes, device=None):
            info = {
                "names": list(bucket),
                "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in bucket.values()],
                "shapes": [list(tensor.shape) for tensor in bucket.values()],
            }
            with servers.meanwhile(partial(self._receive, info)):
                for tensor in bucket.values():
                    self._group.broadcast(tensor, src=0, stream=torch.cuda.current_stream())
                torch.cuda.synchronize()
        servers.each(lambda client: _end(client, label, self._timeout))
        return servers.failures

    def send_again(self, client: ServerClient) -> bool:
        return False

    def close(self) -> None:
        if self._group is not None:
            self._group.destroy()
            self._group = None

    def _receive(self, info: dict[str, Any], client: ServerClient) -> None:
        client.post("/update_weights", {"update_info": info}, timeout=self._timeout)

    def _join(self, servers: _Together) -> None:
        """Form the group of the trainer and all workers, unless it is there."""
        members = tuple(client.address for client in servers.clients)
        if self._group is not None and members == self._members:
            return
        from vllm.distributed.weight_transfer.nccl_common import trainer_init
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        sizes = {
            client.address: int(client.get("/get_world_size", timeout=self._timeout)["world_size"])
            for client in servers.clients
        }
        self.close()
        address, port = _own_address(servers.clients[0]), _free_port()
        common = {
            "master_address": address,
            "master_port": port,
            "world_size": 1 + sum(sizes.values()),
            "packed": False,
        }
        offsets = {name: 1 + sum(list(sizes.values())[:place]) for place, name in enumerate(sizes)}

        def join(client: ServerClient) -> None:
            info = {**common, "rank_offset": offsets[client.address]}
            client.post("/init_weight_transfer_engine", {"init_info": info}, timeout=self._timeout)

        with servers.meanwhile(join):
            self._group = trainer_init(NCCLTrainerInitInfo(**common, rank=0))
        self._members = members


class _Together:
    """The same call to several servers at once; those that fail are left out from then on."""

    def __init__(self, clients: Sequence[ServerClient]) -> None:
        self.clients = list(clients)
        self.failures: dict[str, ServerError] = {}

    def each(self, call: Callable[[ServerClient], Any]) -> None:
        with self.meanwhile(call):
            return

    def meanwhile(self, call: Callable[[ServerClient], Any]) -> _Meanwhile:
        """The calls run in the background of a ``with`` block."""
        return _Meanwhile(self, call)


class _Meanwhile:
    def __init__(self, together: _Together, call: Callable[[ServerClient], Any]) -> None:
        self._together = together
        self._call = call

    def __enter__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=max(1, len(self._together.clients)))
        self._futures = {client: self._executor.submit(self._call, client) for client in self._together.clients}

    def __exit__(self, *_: object) -> None:
        for client, future in self._futures.items():
            error = future.exception()
            if isinstance(error, ServerError):
                self._together.failures[client.address] = error
                self._together.clients.remove(client)
            elif error is not None:
                raise error
        self._executor.shutdown()


def _begin(client: ServerClient, timeout: float, *, start: bool = True) -> None:
    client.post("/pause?mode=wait", timeout=timeout)
    if not start:
        return
    try:
        client.post("/start_weight_update", timeout=timeout)
    except ServerError:
        # An update that broke off is still open: end it, its weights are about to be replaced.
        client.post("/finish_weight_update", {}, timeout=timeout)
        client.post("/start_weight_update", timeout=timeout)


def _end(client: ServerClient, label: str, timeout: float) -> None:
    """Drop cached prefixes before the new label shows: who sees the label may rely on both."""
    client.post("/reset_prefix_cache", timeout=timeout)
    client.post("/finish_weight_update", {"weight_version": label}, timeout=timeout)
    client.post("/resume", timeout=timeout)


def _buckets(
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


def _own_address(client: ServerClient) -> str:
    """The address of this machine as the server sees it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((client.host, client.port))
        address: str = probe.getsockname()[0]
        return address


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
