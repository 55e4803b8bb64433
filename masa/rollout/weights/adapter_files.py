"""LoRA's adapters for servers: the base model once through files, then a folder of adapters for each version."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from masa.model.lora import ADAPTER_FILE
from masa.rollout.engine import RolloutError
from masa.rollout.servers.http_client import RequestRefusedError, ServerClient, ServerError
from masa.rollout.weights.transfer import Together, begin_update, buckets, pause


class AdapterFiles:
    """Adapters go through a folder that vLLM reads as peft's; they are served under the label of their version.

    The files of the base model are kept, so that a server that has been away can be given all.

    Args:
        folder: where files go, which the servers can read.
        write_settings: writes ``adapter_config.json`` into a folder.
        run: what all labels of this run begin with; a server with another label has no base model yet.
        bucket_bytes: size of a file of the base model, unless a tensor is larger.
        timeout: seconds for each request.
    """

    def __init__(
        self, folder: Path, write_settings: Callable[[Path], None], *, run: str, bucket_bytes: int, timeout: float
    ) -> None:
        self._folder = folder
        self._write_settings = write_settings
        self._run = run
        self._bucket_bytes = bucket_bytes
        self._timeout = timeout
        self._base: list[Path] = []
        self._label: str | None = None
        self._before: str | None = None

    @property
    def has_base(self) -> bool:
        """Whether the base model is in files already."""
        return bool(self._base)

    def write_base(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Put the base model into files, a bucket at a time."""
        from safetensors.torch import save_file

        for number, bucket in enumerate(buckets(weights, self._bucket_bytes)):
            path = self._folder / f"base-{number:04d}.safetensors"
            save_file(bucket, path)
            self._base.append(path)

    def send(
        self, clients: Sequence[ServerClient], adapters: Iterable[tuple[str, Tensor]], label: str
    ) -> dict[str, ServerError]:
        """Let all servers sample with ``adapters``, known as ``label`` from then on; what failed, by address.

        Raises:
            RolloutError: a server cannot take the adapters.
        """
        from safetensors.torch import save_file

        target = self._folder / label
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        self._write_settings(target)
        save_file({name: tensor.cpu().contiguous() for name, tensor in adapters}, target / ADAPTER_FILE)
        if self._label != label:
            self._before, self._label = self._label, label
        servers = Together(clients)
        servers.each(self._give)
        if self._before is not None:
            shutil.rmtree(self._folder / self._before, ignore_errors=True)
        return servers.failures

    def send_again(self, client: ServerClient) -> bool:
        """Give one server what was sent last; False where nothing was."""
        if self._label is None:
            return False
        self._give(client)
        return True

    def _give(self, client: ServerClient) -> None:
        pause(client, self._timeout)
        known = str(client.get("/weight_info", timeout=self._timeout)["weight_version"])
        if not known.startswith(self._run):
            begin_update(client, self._timeout)
            for path in self._base:
                client.post("/update_weights", {"update_info": {"path": str(path)}}, timeout=self._timeout)
            client.post("/finish_weight_update", {"weight_version": f"{self._run}-base"}, timeout=self._timeout)
        client.post("/reset_prefix_cache", timeout=self._timeout)
        for label in (self._before, self._label):
            with suppress(ServerError):  # it may not have been there
                client.post("/v1/unload_lora_adapter", {"lora_name": label}, timeout=self._timeout)
        body = {"lora_name": self._label, "lora_path": str(self._folder / str(self._label))}
        try:
            client.post("/v1/load_lora_adapter", body, timeout=self._timeout)
        except RequestRefusedError as error:
            raise RolloutError(
                f"{error}: the server does not take the adapters; rollout.lora=merged goes without"
            ) from error
        # The label shows last: who sees it may rely on the adapter.
        client.post("/update_weight_version", {"new_version": self._label}, timeout=self._timeout)
        client.post("/resume", timeout=self._timeout)
