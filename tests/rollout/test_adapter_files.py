"""Servers are given the base model once, and adapters alone from then on; one that comes back is given both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from masa.rollout.engine import RolloutError
from masa.rollout.servers.http_client import RequestRefusedError
from masa.rollout.weights.adapter_files import AdapterFiles

RUN = "run0"


class Server:
    """What a vLLM server keeps of the requests that an update makes."""

    def __init__(self, address: str, *, refuses: bool = False) -> None:
        self.address = address
        self.refuses = refuses
        self.restart()

    def restart(self) -> None:
        self.label = "default"
        self.base: list[str] = []
        self.adapters: dict[str, dict[str, torch.Tensor]] = {}
        self.paused = False
        self.routes: list[str] = []

    def get(self, path: str, *, timeout: float) -> Any:
        assert path == "/weight_info"
        return {"weight_version": self.label}

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, timeout: float) -> Any:
        self.routes.append(path)
        values = dict(body or {})
        if path == "/pause?mode=wait":
            self.paused = True
        elif path == "/resume":
            self.paused = False
        else:
            assert self.paused, f"{path} outside of a pause"
        if path == "/update_weights":
            self.base.append(values["update_info"]["path"])
        elif path == "/finish_weight_update":
            self.label = values["weight_version"]
        elif path == "/update_weight_version":
            self.label = values["new_version"]
        elif path == "/v1/load_lora_adapter":
            if self.refuses:
                raise RequestRefusedError("HTTP 400: no such layer")
            self.adapters[values["lora_name"]] = load_file(Path(values["lora_path"]) / "adapter_model.safetensors")
        elif path == "/v1/unload_lora_adapter":
            if values["lora_name"] not in self.adapters:
                raise RequestRefusedError("HTTP 404: no such adapter")
            del self.adapters[values["lora_name"]]


@pytest.fixture
def files(tmp_path: Path) -> AdapterFiles:
    made = AdapterFiles(
        tmp_path,
        lambda folder: (folder / "adapter_config.json").write_text("{}") and None,
        run=RUN,
        bucket_bytes=64,
        timeout=1.0,
    )
    made.write_base((f"w{number}", torch.ones(16)) for number in range(3))
    return made


def _adapters(value: float) -> list[tuple[str, torch.Tensor]]:
    return [("base_model.model.layer.lora_A.weight", torch.full((2, 4), value))]


def test_the_base_model_goes_once_and_each_version_has_its_own_adapter(files: AdapterFiles) -> None:
    servers: Any = [Server("a"), Server("b")]
    for version in range(3):
        assert files.send(servers, _adapters(version), f"{RUN}-{version}") == {}
    for server in servers:
        assert len(server.base) == 3, "one file for each tensor, sent once"
        assert server.label == f"{RUN}-2"
        assert list(server.adapters) == [f"{RUN}-2"], "the old ones are gone"
        assert server.adapters[f"{RUN}-2"]["base_model.model.layer.lora_A.weight"].eq(2).all()
        assert server.routes.count("/reset_prefix_cache") == 3
        assert not server.paused


def test_the_same_version_can_be_sent_again_with_other_values(files: AdapterFiles) -> None:
    server: Any = Server("a")
    for value in (1.0, 5.0):
        files.send([server], _adapters(value), f"{RUN}-7")
    assert server.adapters[f"{RUN}-7"]["base_model.model.layer.lora_A.weight"].eq(5).all()


def test_a_server_that_was_started_again_is_given_base_and_adapter(files: AdapterFiles) -> None:
    server: Any = Server("a")
    assert not files.send_again(server), "nothing has been sent yet"
    files.send([server], _adapters(1.0), f"{RUN}-1")
    server.restart()
    assert files.send_again(server)
    assert len(server.base) == 3
    assert (server.label, list(server.adapters)) == (f"{RUN}-1", [f"{RUN}-1"])


def test_a_server_that_does_not_take_the_adapters_ends_the_run_with_what_to_change(files: AdapterFiles) -> None:
    server: Any = Server("a", refuses=True)
    with pytest.raises(RolloutError, match=r"no such layer.*rollout.lora=merged"):
        files.send([server], _adapters(1.0), f"{RUN}-1")
