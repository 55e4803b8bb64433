"""`ServerEngine` against servers that are really killed; the servers are stand-ins, see ``fake_server.py``."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_server import DEFAULTED, completion
from fakes import Fakes, until

from masa.config import load_config
from masa.rollout import Rollout, RolloutRequest
from masa.rollout.engine import RolloutError
from masa.rollout.servers.engine import ServerEngine
from masa.rollout.weights.transfer import FileTransfer

WEIGHTS = [("a.weight", torch.ones(3, 4)), ("b.weight", torch.zeros(5))]
MODEL: Any = SimpleNamespace(dtype=torch.float32)


@pytest.fixture
def connect() -> Iterator[Callable[..., ServerEngine]]:
    with ExitStack() as stack:

        def connect(addresses: list[str], **options: object) -> ServerEngine:
            values = {"servers": addresses, "server_wait": 60.0, "server_patience": 2.0, "max_batch_size": 4, **options}
            section = load_config(None, [f"rollout.{key}={value}" for key, value in values.items()]).rollout
            engine = ServerEngine(MODEL, section, stop_ids=[1], max_model_len=64)
            stack.callback(engine.close)
            return engine

        yield connect


def _requests(count: int, samples: int = 4) -> list[RolloutRequest]:
    return [
        RolloutRequest(f"p{number}", "solution", (number, 2, 3), tuple(range(number, number + samples)), 10 + number)
        for number in range(count)
    ]


def _assert_complete(requests: list[RolloutRequest], rollouts: list[Any], version: int) -> None:
    """Every sample is there once, in order, and is what its seed makes it."""
    assert [len(group) for group in rollouts] == [len(request.seeds) for request in requests]
    for request, group in zip(requests, rollouts, strict=True):
        for index, (seed, rollout) in enumerate(zip(request.seeds, group, strict=True)):
            expected = completion(list(request.prompt_ids), seed, request.max_new_tokens)
            assert (rollout.problem_id, rollout.index) == (request.problem_id, index)
            assert list(rollout.token_ids) == expected["token_ids"]
            assert rollout.logprobs == expected["logprobs"]["token_logprobs"]
            assert rollout.finish_reason == expected["finish_reason"]
            assert rollout.weight_version == version


def test_samples_come_back_in_order_whatever_server_made_them(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(), fakes.start()])
    engine.update_weights(iter(WEIGHTS), version=3)
    requests = _requests(6)
    _assert_complete(requests, engine.generate(requests), version=3)
    statistics = engine.statistics()
    assert statistics["rollout/servers_working"] == 2.0
    assert statistics["time/tokens_per_second"] > 0
    assert engine.checksums() == [7, 7]


def test_a_server_killed_in_the_middle_of_a_step_costs_no_sample_and_rejoins_with_the_weights(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    addresses = [fakes.start(0.1), fakes.start(0.1)]
    engine = connect(addresses)
    engine.update_weights(iter(WEIGHTS), version=1)
    requests = _requests(12)
    killer = threading.Timer(0.25, fakes.kill, [1])
    killer.start()
    rollouts = engine.generate(requests)
    killer.join()
    _assert_complete(requests, rollouts, version=1)
    until(lambda: "dead" in engine.describe())
    assert engine._fleet.working() == [addresses[0]]
    fakes.start(number=1)
    until(lambda: len(engine._fleet.working()) == 2)
    client = engine._clients[addresses[1]]
    assert client.get("/weight_info", timeout=5.0)["weight_version"].endswith("-1"), "it works without the weights"
    _assert_complete(requests, engine.generate(requests), version=1)


def test_a_server_that_hangs_is_dead_after_the_patience_and_its_requests_go_to_the_other(
    fakes: Fakes, connect: Callable[..., ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa.rollout.servers.watch._ANSWER_WITHIN", 0.3)
    engine = connect([fakes.start(0.1), fakes.start(0.1)], server_patience=0.5)
    engine.update_weights(iter(WEIGHTS), version=1)
    requests = _requests(8)
    stopper = threading.Timer(0.2, fakes.send, [1, signal.SIGSTOP])
    stopper.start()
    _assert_complete(requests, engine.generate(requests), version=1)
    assert "dead" in engine.describe()


def test_all_servers_dead_is_a_clear_error_after_the_bounded_wait(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(0.2), fakes.start(0.2)], server_wait=2.0)
    engine.update_weights(iter(WEIGHTS), version=1)
    killers = [threading.Timer(0.3, fakes.kill, [number]) for number in (0, 1)]
    for killer in killers:
        killer.start()
    started = time.monotonic()
    with pytest.raises(RolloutError, match=r"no rollout server could be used for .* dead, .* dead\. Resume the run"):
        engine.generate(_requests(20))
    assert 2.0 <= time.monotonic() - started < 20.0


def test_a_step_goes_on_when_servers_come_back_within_the_wait(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(0.1)])
    engine.update_weights(iter(WEIGHTS), version=5)
    requests = _requests(5)

    def replace() -> None:
        fakes.kill(0)
        fakes.start(number=0)

    timer = threading.Timer(0.3, replace)
    timer.start()
    _assert_complete(requests, engine.generate(requests), version=5)


def test_a_server_that_fails_an_update_gets_no_work(fakes: Fakes, connect: Callable[..., ServerEngine]) -> None:
    addresses = [fakes.start(), fakes.start(defect="updates")]
    engine = connect(addresses)
    engine.update_weights(iter(WEIGHTS), version=1)
    assert engine._fleet.working() == [addresses[0]]
    requests = _requests(3)
    _assert_complete(requests, engine.generate(requests), version=1)


def test_a_request_that_breaks_every_server_ends_the_step(fakes: Fakes, connect: Callable[..., ServerEngine]) -> None:
    engine = connect([fakes.start(defect="samples"), fakes.start(defect="samples")])
    engine.update_weights(iter(WEIGHTS), version=1)
    with pytest.raises(RolloutError, match=r"problem 'p0': no server could answer one request in \d+ attempts.*broken"):
        engine.generate(_requests(1, samples=1))


def test_a_server_that_is_there_and_makes_nothing_costs_no_sample(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(defect="samples"), fakes.start(0.05)])
    engine.update_weights(iter(WEIGHTS), version=1)
    requests = _requests(12)
    _assert_complete(requests, engine.generate(requests), version=1)


def test_weights_that_nobody_could_take_are_sent_again_when_a_server_is_back(
    fakes: Fakes, connect: Callable[..., ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an NCCL update that broke off: no file is left that a returning server could be given."""
    monkeypatch.setattr(FileTransfer, "keeps_weights", False)
    monkeypatch.setattr(FileTransfer, "send_again", lambda self, client: False)
    engine = connect([fakes.start(defect="parts")])
    policy = torch.nn.Linear(3, 4)

    def mend() -> None:
        fakes.kill(0)
        fakes.start(number=0)

    timer = threading.Timer(1.0, mend)
    timer.start()
    engine.update_weights(policy, version=2)
    requests = _requests(3)
    _assert_complete(requests, engine.generate(requests), version=2)


def test_a_started_server_that_hangs_is_started_again(
    fakes: Fakes, connect: Callable[..., ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa.rollout.servers.watch._ANSWER_WITHIN", 0.2)
    engine = connect([fakes.start()], server_patience=0.4)
    engine.update_weights(iter(WEIGHTS), version=1)

    def restart() -> None:
        fakes.kill(0)
        fakes.start(number=0)

    process = SimpleNamespace(restart=restart, restart_if_ended=lambda: None)
    monkeypatch.setattr(engine._started, "get", lambda address: process)
    fakes.send(0, signal.SIGSTOP)
    until(lambda: "dead" in engine.describe())
    until(lambda: len(engine._fleet.working()) == 1)


def test_a_started_server_that_answers_and_cannot_take_weights_is_not_started_again(
    fakes: Fakes, connect: Callable[..., ServerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa.rollout.servers.watch._LOOK_EVERY", 0.05)
    engine = connect([fakes.start(), fakes.start(defect="updates")], server_patience=0.2)
    restarts: list[None] = []
    process = SimpleNamespace(restart=lambda: restarts.append(None), restart_if_ended=lambda: None)
    monkeypatch.setattr(engine._started, "get", lambda address: process)
    engine.update_weights(iter(WEIGHTS), version=1)
    time.sleep(2.0)
    assert restarts == []
    assert len(engine._fleet.working()) == 1


def test_no_requests_are_no_work(fakes: Fakes, connect: Callable[..., ServerEngine]) -> None:
    engine = connect([fakes.start()])
    engine.update_weights(iter(WEIGHTS), version=1)
    assert engine.generate([]) == []


def test_weights_go_in_parts_and_only_the_last_version_is_kept(
    fakes: Fakes, connect: Callable[..., ServerEngine], tmp_path: Path
) -> None:
    engine = connect([fakes.start()], transfer_folder=tmp_path, bucket_mb=1)
    big = [(f"w{number}", torch.zeros(200_000)) for number in range(3)]
    engine.update_weights(iter(big), version=1)
    engine.update_weights(iter(big), version=2)
    files = sorted(path.name for path in tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    assert all("-2-" in name for name in files)
    engine.close()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_servers_that_do_not_come_up_are_named(connect: Callable[..., ServerEngine]) -> None:
    with pytest.raises(RolloutError, match=r"http://127\.0\.0\.1:9 was not up in 0\.5 seconds"):
        connect(["http://127.0.0.1:9"], server_wait=0.5)


def test_each_rollout_is_told_of_once(fakes: Fakes, connect: Callable[..., ServerEngine]) -> None:
    engine = connect([fakes.start(), fakes.start()])
    engine.update_weights(WEIGHTS, 1)
    requests, told = _requests(3), []
    rollouts = engine.generate(requests, lambda request, rollout: told.append((request.problem_id, rollout.index)))
    _assert_complete(requests, rollouts, 1)
    assert sorted(told) == [(request.problem_id, index) for request in requests for index in range(4)]


def test_requests_may_come_while_others_are_with_servers(fakes: Fakes, connect: Callable[..., ServerEngine]) -> None:
    engine = connect([fakes.start(0.02), fakes.start(0.02)])
    engine.update_weights(WEIGHTS, 1)
    requests, found = _requests(4), {}
    with engine.stream() as stream:
        stream.submit(requests[:2])
        coming = requests[2:]
        while ended := stream.take():
            for one in ended:
                assert one.request is requests[one.number]
                found[one.number, one.rollout.index] = one.rollout
            if coming:
                stream.submit([coming.pop(0)])
    _assert_complete(requests, [[found[number, index] for index in range(4)] for number in range(4)], 1)


def test_a_stream_that_is_left_gives_up_what_is_with_servers(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(0.5)])
    engine.update_weights(WEIGHTS, 1)
    with engine.stream() as stream:
        stream.submit(_requests(2))
    requests = _requests(1)
    _assert_complete(requests, engine.generate(requests), 1)


def test_a_cancelled_request_is_not_waited_for_and_the_others_are_made(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(0.3)], max_batch_size=2)
    engine.update_weights(WEIGHTS, 1)
    requests = _requests(6)
    with engine.stream() as stream:
        stream.submit(requests)
        time.sleep(0.1)
        # Two samples of the first request are with the server; nothing of the second one is.
        assert stream.cancel([0, 1, 3, 4]) == []
        found: dict[int, list[int]] = {}
        while ended := stream.take():
            for one in ended:
                found.setdefault(one.number, []).append(one.rollout.index)
    assert {number: sorted(indices) for number, indices in found.items()} == {2: [0, 1, 2, 3], 5: [0, 1, 2, 3]}
    assert engine._clients[next(iter(engine._clients))].get("/state", timeout=5.0)["requests"] <= 2 + 8
    assert "healthy" in engine.describe(), "a connection that was cut on purpose says nothing of the server"
    _assert_complete(requests[:1], engine.generate(requests[:1]), 1)


def test_leaving_a_stream_cuts_what_is_being_sampled_and_no_look_at_a_server_s_health(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start(1.0)])
    engine.update_weights(WEIGHTS, 1)
    (client,) = engine._clients.values()
    answers: list[object] = []

    def look() -> None:
        # A look that takes long: a request beside the stream's, from another thread.
        body = {**dict.fromkeys(DEFAULTED, 0), "prompt": [9], "seed": 1, "max_tokens": 4}
        answers.append(client.post("/v1/completions", body, timeout=10.0))

    thread = threading.Thread(target=look)
    with engine.stream() as stream:
        stream.submit(_requests(2))
        thread.start()
        time.sleep(0.3)
    thread.join(5)
    assert len(answers) == 1
    assert "healthy" in engine.describe()


def test_a_sample_that_was_put_aside_cannot_go_on_with_a_server(
    fakes: Fakes, connect: Callable[..., ServerEngine]
) -> None:
    engine = connect([fakes.start()])
    engine.update_weights(WEIGHTS, 1)
    begun = Rollout("p", "solution", 0, (5,), (3,), (-1.0,), "aside", 0, 0.0)
    with engine.stream() as stream, pytest.raises(RolloutError, match="'p': a sample that was put aside cannot go on"):
        stream.submit([RolloutRequest("p", "solution", (5,), (1,), 8, begun=(begun,))])
