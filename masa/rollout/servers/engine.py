"""Rollouts from vLLM servers over HTTP: the user's own, or started by the run."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from masa.model.lora import has_adapters, save_settings
from masa.model.weights import (
    Weights,
    adapter_weights,
    has_transposed_matrices,
    named_tensors,
    parameter_shapes,
    policy_weights,
)
from masa.rollout.engine import Ended, Rollout, RolloutError, RolloutRequest
from masa.rollout.servers.completions import Stops
from masa.rollout.servers.health import Fleet
from masa.rollout.servers.http_client import ServerClient, ServerError
from masa.rollout.servers.launch import StartedServers, server_arguments, wait_until_up
from masa.rollout.servers.leftovers import claimed_folder
from masa.rollout.servers.stream import Servers, ServerStream
from masa.rollout.servers.watch import Watch
from masa.rollout.statistics import EngineStatistics
from masa.rollout.stop_texts import StopTexts
from masa.rollout.stream import generate
from masa.rollout.vllm.arguments import engine_dtype
from masa.rollout.weights.adapter_files import AdapterFiles
from masa.rollout.weights.adapters import adapter_arguments, servers_take_adapters
from masa.rollout.weights.saved_weights import SavedWeights
from masa.rollout.weights.transfer import FILE_BACKEND
from masa.rollout.weights.transfer_choice import make_transfer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.config.schema import RolloutSection

_WORD_WITHIN = 30.0


class ServerEngine:
    """A `RolloutEngine` over one or several vLLM servers.

    Every process of a run sends its own requests; the first one starts the servers and gives them weights. What a
    server may be given is decided in `masa.rollout.servers.health`; a thread per server observes it. Requests of a
    server that dies go to the others, and a server that returns is given the weights before it is given work.

    Args:
        model: the policy, whose architecture and type started servers take.
        section: the configuration of rollouts.
        stop_ids: token ids that end a response.
        max_model_len: longest prompt and response together, in tokens, of started servers.
        tokenizer: the policy's tokenizer, which started servers are given; null: as the model's path says.
        stop_texts: texts that end a response as well; servers look for them with their own tokenizer.
        clock: seconds, never going back.

    Raises:
        ConfigError: what is asked for cannot work here.
        RolloutError: the servers do not come up within ``server_wait`` seconds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        section: RolloutSection,
        *,
        stop_ids: Sequence[int],
        max_model_len: int,
        tokenizer: PreTrainedTokenizerBase | None = None,
        stop_texts: StopTexts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.weight_version = 0
        self.weight_dtype: torch.dtype = getattr(torch, engine_dtype(model, section))
        self._section = section
        self._stops = Stops(sorted(set(stop_ids)), stop_texts)
        self._as_saved = SavedWeights(model)
        self._transposes = has_transposed_matrices(parameter_shapes(model))
        self._main = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        self._run = uuid.uuid4().hex[:12]
        self._statistics = EngineStatistics()
        self._folder = claimed_folder(Path(tempfile.gettempdir()), "masa-servers", private=True)
        self._started = StartedServers()
        backend, self._transfer = make_transfer(section, self._folder)
        self.samples_with_adapter = False
        self._adapter_files: AdapterFiles | None = None
        self._has_base = False
        try:
            addresses, takes_adapters = self._find_servers(model, max_model_len, backend, tokenizer)
            if takes_adapters:
                self._adapter_files = self._make_adapter_files(model)
            self._clients = {address: ServerClient(address) for address in addresses}
            self._fleet = Fleet(self._clients, clock, section.server_patience)
            self._names = {
                address: wait_until_up(client, self._started.get(address), section.server_wait)
                for address, client in self._clients.items()
            }
        except BaseException:
            self._release()
            raise
        self._watch = Watch(
            self._clients,
            self._fleet,
            self._started,
            bring_back=self._bring_back if self._main else None,
            patience=section.server_patience,
            clock=clock,
            statistics=self._statistics,
        )
        self._watch.start()

    def _find_servers(
        self,
        model: PreTrainedModel,
        max_model_len: int,
        backend: str,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> tuple[list[str], bool]:
        """Addresses of the servers, named or started by the first process, and whether they are given adapters.

        All processes agree on them, and on the name of the run.
        """
        takes_adapters = servers_take_adapters(self._section, model, in_files=backend == FILE_BACKEND)
        addresses = [ServerClient(address).address for address in self._section.servers]
        if self._main and not addresses:
            arguments = server_arguments(
                model, self._section, max_model_len, self._folder, backend=backend, tokenizer=tokenizer
            )
            addresses, takes_adapters = self._start(model, arguments, takes_adapters)
        self._run, addresses, takes_adapters = _from_first_process((self._run, addresses, takes_adapters))
        return addresses, takes_adapters

    def _make_adapter_files(self, model: PreTrainedModel) -> AdapterFiles:
        return AdapterFiles(
            self._folder,
            partial(save_settings, model),
            run=self._run,
            bucket_bytes=self._section.bucket_mb * 2**20,
            timeout=self._section.server_wait,
        )

    def _start(self, model: PreTrainedModel, arguments: dict[str, Any], takes_adapters: bool) -> tuple[list[str], bool]:
        """Start the servers, without room for adapters where vLLM has none for this model; the servers, and whether."""
        if takes_adapters:
            addresses = self._started.start(self._section, self._folder, arguments | adapter_arguments(model))
            try:
                for address in addresses:
                    wait_until_up(ServerClient(address), self._started.get(address), self._section.server_wait)
                return addresses, True
            except RolloutError as error:
                if self._section.lora == "adapter":
                    raise
                warnings.warn(f"rollout.lora: servers are given merged weights, as {error}", stacklevel=2)
                self._started.close()
                self._started = StartedServers()
        return self._started.start(self._section, self._folder, arguments), False

    def generate(self, requests: Sequence[RolloutRequest], ended: Ended | None = None) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

        Raises:
            RolloutError: no server could be used for ``server_wait`` seconds, or one refused a request.
        """
        return generate(self.stream(), requests, ended)

    def stream(self) -> ServerStream:
        """A stream whose requests are all with servers at once, up to ``max_batch_size`` for each of them."""
        servers = Servers(
            self._clients,
            self._fleet,
            model_name=lambda address: self._watch.label if self.samples_with_adapter else self._names[address],
            stops=self._stops,
            weight_version=self.weight_version,
            connections=self._section.max_batch_size,
            require=self._require_servers,
        )
        return ServerStream(servers, self._statistics)

    def update_weights(self, weights: Weights, version: int) -> None:
        """Give all servers the policy's parameters, inside a pause; they forget what they cached under the old ones.

        All processes of a run call it together. A server that fails is dead until it answers again.

        Raises:
            RolloutError: no server could be updated for ``server_wait`` seconds.
        """
        # Decided by what the first process saw, not by each one's own view, which may have changed by now.
        while not self._send(weights, version):
            keeps = self._transfer.keeps_weights or self.samples_with_adapter
            can_send_again = isinstance(weights, torch.nn.Module) and not keeps
            while (usable := self._wait_a_while(can_send_again)) == "not yet":
                continue
            if usable == "works":
                return

    def sleep(self) -> None:
        """Servers have their own memory, and keep it."""

    def wake(self) -> None:
        """Servers never sleep."""

    def statistics(self) -> dict[str, float]:
        """Speed, time to first token, queues, KV usage, preemptions and prefix hits since the last call."""
        for address in self._clients:
            with suppress(ServerError):
                self._watch.read_metrics(address)
        values = self._statistics.reading()
        values["rollout/servers_working"] = float(len(self._fleet.working()))
        return values

    def checksums(self) -> list[int]:
        """The checksum of each working server's weights; of those alone that run `masa.rollout.vllm.worker`, and
        keep the weights in a checkpoint's order."""
        if self._section.tensor_parallel_size > 1 or self._transposes:
            return []
        found: list[int] = []
        for address in self._fleet.working():
            with suppress(ServerError):
                answer = self._clients[address].post("/collective_rpc", {"method": "masa_checksum"}, timeout=60.0)
                found += [int(value) for value in answer["results"] if value is not None]
        return found

    def describe(self) -> str:
        """Each server and its state."""
        return self._fleet.describe()

    def close(self) -> None:
        """Give up what is being sampled, and end the servers that were started here."""
        self._watch.stop()
        for client in self._clients.values():
            client.cut()
        self._release()

    def _send(self, weights: Weights, version: int) -> list[str]:
        """One attempt to give all servers the weights that can take them; those that have them, for all processes."""
        label = f"{self._run}-{version}"
        files = self._adapter_files
        self.samples_with_adapter = files is not None and isinstance(weights, torch.nn.Module) and has_adapters(weights)
        tensors: Iterable[tuple[str, torch.Tensor]] = self._as_saved(named_tensors(weights))
        if files is not None and isinstance(weights, torch.nn.Module) and self.samples_with_adapter:
            tensors = adapter_weights(weights)
            self._write_base(files, weights)
        with self._watch.nobody_looks():
            self._watch.label = label
            self.weight_version = version
            if self._main:
                clients = [self._clients[address] for address in self._fleet.updatable()]
                send = files.send if files is not None and self.samples_with_adapter else self._transfer.send
                failures = send(clients, tensors, label)
                for client in clients:
                    if client.address in failures:
                        self._fleet.update_failed(client.address)
                    else:
                        self._fleet.updated(client.address)
            else:
                # What is shared over processes is gathered by all of them together.
                for _ in tensors:
                    continue
        updated: list[str] = _from_first_process(self._fleet.working())
        if not self._main:
            for address in self._clients:
                if address in updated:
                    self._fleet.updated(address)
                else:
                    self._fleet.update_failed(address)
        return updated

    def _write_base(self, files: AdapterFiles, model: torch.nn.Module) -> None:
        """Once, the base model for all servers; what is shared over processes is gathered by all of them together."""
        if self._has_base:
            return
        self._has_base = True
        base = self._as_saved(policy_weights(model, merged=False))
        if self._main:
            files.write_base(base)
        else:
            deque(base, maxlen=0)

    def _bring_back(self, client: ServerClient) -> bool:
        """Give a server that has returned what was sent last; whether that could be done."""
        if self._adapter_files is not None and self.samples_with_adapter:
            return self._adapter_files.send_again(client)
        return self._transfer.send_again(client)

    def _wait_a_while(self, can_send_again: bool) -> Literal["works", "send again", "not yet"]:
        """Whether a server works, or could be given the weights once more; what the first process sees counts for all.

        In short rounds: the others wait for its word, and process groups do not wait for ever.

        Raises:
            RolloutError: no server could be used for ``server_wait`` seconds.
        """
        working: list[str] = []
        answer, error = "not yet", ""
        deadline = time.monotonic() + _WORD_WITHIN
        try:
            while self._main and answer == "not yet" and time.monotonic() < deadline:
                working = self._fleet.working()
                if working:
                    answer = "works"
                elif can_send_again and self._fleet.updatable():
                    answer = "send again"
                else:
                    self._require_servers()
                    self._watch.wait()
        except RolloutError as given_up:
            error = str(given_up)
        working, answer, error = _from_first_process((working, answer, error))
        if error:
            raise RolloutError(error)
        if not self._main:
            for address in working:
                self._fleet.updated(address)
        return answer

    def _require_servers(self) -> None:
        """Give up when there has been no server to use for too long."""
        if self._watch.stopped:
            raise RolloutError("the engine was closed while it sampled")
        idle = self._fleet.idle_seconds()
        if idle > self._section.server_wait:
            raise RolloutError(
                f"no rollout server could be used for {idle:.0f} seconds (rollout.server_wait is "
                f"{self._section.server_wait:g}): {self._fleet.describe()}. Resume the run from its last checkpoint "
                "when servers are back"
            )

    def _release(self) -> None:
        self._started.close()
        self._transfer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _from_first_process(value: Any) -> Any:
    """What the run's first process has as ``value``."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
