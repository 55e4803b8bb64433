"""When weights are broadcast to which servers; the broadcasts and the servers are stand-ins."""

import time
from typing import ClassVar

import pytest
import torch
from fakes import Fakes
from torch import Tensor

from masa.rollout.servers.http_client import ServerClient
from masa.rollout.weights.nccl_transfer import NcclTransfer

WEIGHTS = [(f"w{number}", torch.full((64, 1024), float(number))) for number in range(6)]


class FakeGroup:
    """Keeps what was broadcast; ``hangs``: it never arrives."""

    made: ClassVar[list["FakeGroup"]] = []
    hangs = False

    def __init__(self, address: str, port: int, size: int) -> None:
        self.size = size
        self.sent: list[float] = []
        self.shapes: list[list[int]] = []
        self.closed = False
        FakeGroup.made.append(self)

    def broadcast(self, tensor: Tensor) -> None:
        assert not self.closed
        self.sent.append(float(tensor[0, 0]))
        self.shapes.append(list(tensor.shape))

    def done(self) -> bool:
        return not self.hangs

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _no_groups_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGroup, "made", [])


def _transfer(timeout: float = 20.0) -> NcclTransfer:
    # Two of the tensors fill a bucket.
    return NcclTransfer(bucket_bytes=2**19, timeout=timeout, connect=FakeGroup)


def test_one_group_of_all_workers_serves_all_updates(fakes: Fakes) -> None:
    clients = [ServerClient(fakes.start()) for _ in range(2)]
    transfer = _transfer()
    for label in ("run-1", "run-2"):
        assert transfer.send(clients, iter(WEIGHTS), label) == {}
        assert [one.get("/weight_info", timeout=5.0)["weight_version"] for one in clients] == [label] * 2
    (group,) = FakeGroup.made
    assert group.size == 5, "the trainer and two workers of each server"
    assert group.sent == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] * 2
    for one in clients:
        announced = one.get("/state", timeout=5.0)["announced"]
        names = [name for info in announced for name in info["names"]]
        assert names == [name for name, _ in WEIGHTS] * 2, "what is announced is what is sent, in this order"
        assert [shape for info in announced for shape in info["shapes"]] == group.shapes
        assert {name for info in announced for name in info["dtype_names"]} == {"float32"}
    places = [one.get("/groups", timeout=5.0)[0] for one in clients]
    assert [place["rank_offset"] for place in places] == [1, 3]
    assert {place["world_size"] for place in places} == {5}
    transfer.close()
    assert group.closed


def test_a_server_that_was_started_anew_gets_a_new_group_though_the_addresses_are_the_same(fakes: Fakes) -> None:
    clients = [ServerClient(fakes.start()) for _ in range(2)]
    transfer = _transfer()
    transfer.send(clients, iter(WEIGHTS), "run-1")
    fakes.kill(1)
    fakes.start(number=1)
    assert transfer.send(clients, iter(WEIGHTS), "run-2") == {}
    assert [group.closed for group in FakeGroup.made] == [True, False]


def test_a_server_that_is_gone_is_left_out_of_the_group(fakes: Fakes) -> None:
    clients = [ServerClient(fakes.start()) for _ in range(2)]
    transfer = _transfer()
    transfer.send(clients, iter(WEIGHTS), "run-1")
    fakes.kill(0)
    assert list(transfer.send(clients, iter(WEIGHTS), "run-2")) == [clients[0].address]
    assert [group.size for group in FakeGroup.made] == [5, 3]


def test_a_server_that_fails_among_broadcasts_fails_all_and_they_take_part_in_the_next_update(fakes: Fakes) -> None:
    clients = [ServerClient(fakes.start()), ServerClient(fakes.start(defect="parts"))]
    transfer = _transfer()
    failures = transfer.send(clients, iter(WEIGHTS), "run-1")
    assert set(failures) == {one.address for one in clients}
    assert "another server failed" in str(failures[clients[0].address])
    assert FakeGroup.made[0].closed
    fakes.kill(1)
    fakes.start(number=1)
    assert transfer.send(clients, iter(WEIGHTS), "run-2") == {}


def test_a_broadcast_that_never_arrives_is_given_up_after_the_bounded_wait(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [ServerClient(fakes.start())]
    monkeypatch.setattr(FakeGroup, "hangs", True)
    started = time.monotonic()
    assert set(_transfer(timeout=1.0).send(clients, iter(WEIGHTS), "run-1")) == {clients[0].address}
    assert time.monotonic() - started < 10.0
    assert FakeGroup.made[0].closed


def test_the_weights_are_taken_to_the_end_where_no_server_is_left(fakes: Fakes) -> None:
    # Processes that share a policy gather it together: one that stopped would leave the others waiting.
    weights = iter(WEIGHTS)
    fakes.start()
    client = ServerClient(f"http://127.0.0.1:{fakes.ports[0]}")
    fakes.kill(0)
    assert set(_transfer().send([client], weights, "run-1")) == {client.address}
    assert next(weights, None) is None
    assert FakeGroup.made == []
