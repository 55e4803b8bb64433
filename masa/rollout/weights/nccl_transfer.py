"""Getting weights from the trainer's GPU to those of vLLM servers by NCCL broadcasts, one tensor after the other."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from masa.rollout.servers.http_client import ServerClient, ServerError
from masa.rollout.weights.transfer import Meanwhile, Together, begin_update, buckets, end_update, pause

_LOOK_EVERY = 0.005


class Group(Protocol):
    """The trainer's end of a group in which it is rank 0 and all workers of all servers follow."""

    def broadcast(self, tensor: Tensor) -> None:
        """Begin to send ``tensor`` to all others."""
        ...

    def done(self) -> bool:
        """Whether all that was sent has arrived."""
        ...

    def close(self) -> None:
        """Leave the group; what is still being sent is given up."""
        ...


class NcclGroup:
    """A `Group` over NCCL, on this process's current GPU."""

    def __init__(self, address: str, port: int, size: int) -> None:
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        # The class that holds these three has another name in each version of vLLM.
        self._group = trainer_init({"master_address": address, "master_port": port, "world_size": size})
        self._sent: Any = None

    def broadcast(self, tensor: Tensor) -> None:
        stream = torch.cuda.current_stream()
        self._group.broadcast(tensor, src=0, stream=stream)
        self._sent = torch.cuda.Event()
        self._sent.record(stream)

    def done(self) -> bool:
        return self._sent is None or bool(self._sent.query())

    def close(self) -> None:
        self._group.destroy()


class NcclTransfer:
    """A `Transfer` by broadcasts; the group is formed anew when servers change or have been started anew.

    Where one server fails in the middle of a broadcast, none can be relied on: all that were being updated count as
    failed, and take part in the next update if they answer then.

    Args:
        bucket_bytes: how much is copied and announced at a time.
        timeout: seconds for each answer of a server, and for a bucket to arrive.
        connect: forms a group from the trainer's address, a port and the number of members.
    """

    keeps_weights = False

    def __init__(
        self, *, bucket_bytes: int, timeout: float, connect: Callable[[str, int, int], Group] = NcclGroup
    ) -> None:
        self._bucket_bytes = bucket_bytes
        self._timeout = timeout
        self._connect = connect
        self._group: Group | None = None
        self._members: tuple[str, ...] = ()
        self._label: str | None = None

    def send(
        self, clients: Sequence[ServerClient], weights: Iterable[tuple[str, Tensor]], label: str
    ) -> dict[str, ServerError]:
        servers = Together(clients)
        servers.each(lambda client: pause(client, self._timeout))
        # Before the group is formed: a server that fails here would spoil it for the others.
        servers.each(lambda client: begin_update(client, self._timeout))
        self._join(servers)
        # To the end also where no server is left: other processes gather the same weights.
        for bucket in buckets(weights, self._bucket_bytes, device=None):
            if servers.clients:
                self._broadcast(servers, bucket)
        servers.each(lambda client: end_update(client, label, self._timeout))
        self._label = label
        return servers.failures

    def send_again(self, client: ServerClient) -> bool:
        return False

    def close(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None

    def _broadcast(self, servers: Together, bucket: dict[str, Tensor]) -> None:
        info = {
            "names": list(bucket),
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in bucket.values()],
            "shapes": [list(tensor.shape) for tensor in bucket.values()],
        }
        receivers = list(servers.clients)
        if self._group is None or tuple(client.address for client in receivers) != self._members:
            # The others in the group wait for a broadcast that one of them will not take part in.
            self._give_up(servers, receivers)
            return
        with servers.meanwhile(partial(self._receive, info)) as receiving:
            for tensor in bucket.values():
                self._group.broadcast(tensor)
            arrived = self._arrived(self._group, receiving)
            if not arrived:
                self.close()
        if not arrived or len(servers.clients) < len(receivers):
            self._give_up(servers, receivers)

    def _arrived(self, group: Group, receiving: Meanwhile) -> bool:
        deadline = time.monotonic() + self._timeout
        while not group.done():
            if receiving.failed() or time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY)
        return True

    def _give_up(self, servers: Together, receivers: Sequence[ServerClient]) -> None:
        self.close()
        servers.leave_out(receivers, ServerError("another server failed in the middle of a broadcast"))

    def _receive(self, info: dict[str, Any], client: ServerClient) -> None:
        client.post("/update_weights", {"update_info": info}, timeout=self._timeout)

    def _join(self, servers: Together) -> None:
        """Form the group of the trainer and all workers, unless it is there and all of them are still in it."""
        labels: dict[str, Any] = {}

        def look(client: ServerClient) -> None:
            labels[client.address] = client.get("/weight_info", timeout=self._timeout)["weight_version"]

        servers.each(look)
        members = tuple(client.address for client in servers.clients)
        # A server with another label has been started anew, and its workers know of no group.
        if self._group is not None and members == self._members and set(labels.values()) == {self._label}:
            return
        self.close()
        sizes: dict[str, int] = {}

        def count(client: ServerClient) -> None:
            sizes[client.address] = int(client.get("/get_world_size", timeout=self._timeout)["world_size"])

        servers.each(count)
        if not servers.clients:
            return
        members = tuple(client.address for client in servers.clients)
        offsets = {name: 1 + sum(sizes[one] for one in members[:place]) for place, name in enumerate(members)}
        address, port = _own_address(servers.clients), _free_port()
        size = 1 + sum(sizes[one] for one in members)
        common = {"master_address": address, "master_port": port, "world_size": size, "packed": False}

        def join(client: ServerClient) -> None:
            info = {**common, "rank_offset": offsets[client.address]}
            client.post("/init_weight_transfer_engine", {"init_info": info}, timeout=self._timeout)

        with servers.meanwhile(join):
            self._group = self._connect(address, port, size)
        self._members = members


def _own_address(clients: Sequence[ServerClient]) -> str:
    """The address of this machine as servers see it; one that those on other machines can use as well."""
    addresses = []
    for client in clients:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((client.host, client.port))
            addresses.append(str(probe.getsockname()[0]))
    return next((one for one in addresses if not one.startswith("127.")), addresses[0])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
