"""Connections to a server: kept and bounded, cut from another thread, renewed when the server has closed them."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_server import DEFAULTED
from fakes import Fakes

from masa.rollout.servers.http_client import RequestRefusedError, ServerClient, ServerError, ServerRefusedError

BODY = {**dict.fromkeys(DEFAULTED, 0), "prompt": [1, 2], "seed": 1, "max_tokens": 4}


def _post(client: ServerClient) -> None:
    client.post("/v1/completions", BODY, timeout=None)


def test_threads_that_come_and_go_leave_no_connections_behind(fakes: Fakes) -> None:
    client = ServerClient(fakes.start(0.05))
    files = []
    for _ in range(4):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(_post, [client] * 8))
        files.append(len(os.listdir("/proc/self/fd")))
    assert files[-1] <= files[0] + 1
    client.cut()
    assert len(os.listdir("/proc/self/fd")) < files[-1]


def test_a_cut_request_ends_at_once_and_is_not_sent_again(fakes: Fakes) -> None:
    client = ServerClient(fakes.start(1.0))
    _post(client)  # the connection has been used before, as one that the server closed meanwhile would be
    errors: list[Exception] = []

    def wait_for_an_answer() -> None:
        try:
            _post(client)
        except ServerError as error:
            errors.append(error)

    thread = threading.Thread(target=wait_for_an_answer)
    thread.start()
    time.sleep(0.3)
    client.cut()
    thread.join(0.5)
    assert not thread.is_alive()
    assert len(errors) == 1
    time.sleep(2.5)
    assert client.get("/state", timeout=5.0)["requests"] == 2


def test_a_connection_that_the_server_has_closed_is_replaced(fakes: Fakes) -> None:
    client = ServerClient(fakes.start())
    _post(client)
    fakes.kill(0)
    fakes.start(number=0)
    _post(client)
    assert client.get("/state", timeout=5.0)["requests"] == 1


def test_each_failure_has_its_own_error(fakes: Fakes) -> None:
    client = ServerClient(fakes.start(defect="samples"))
    with pytest.raises(RequestRefusedError, match="HTTP 404"):
        client.get("/nothing", timeout=5.0)
    with pytest.raises(ServerError, match=r"HTTP 500.*broken"):
        _post(client)
    fakes.kill(0)
    with pytest.raises(ServerRefusedError, match="nothing listens there"):
        _post(client)
    with pytest.raises(ValueError, match="written like http://host:8000"):
        ServerClient("https://host")
