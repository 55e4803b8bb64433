"""Rollouts from vLLM servers over HTTP: the user's own, or started by the run."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from masa.rollout.completions import completed_rollout, completion_body
from masa.rollout.dispatch import Dispatcher
from masa.rollout.engine import Rollout, RolloutError, RolloutRequest
from masa.rollout.health import Fleet
from masa.rollout.http_client import RequestRefusedError, ServerClient, ServerError, ServerRefusedError
from masa.rollout.launch import StartedServers, server_arguments, wait_until_up
from masa.rollout.server_metrics import ServerMetrics
from masa.rollout.statistics import EngineStatistics
from masa.rollout.transfer import make_transfer
from masa.rollout.vllm_arguments import engine_dtype
from masa.rollout.weights import Weights, named_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.config.schema import RolloutSection

_LOOK_EVERY = 0.5
_ANSWER_WITHIN = 5.0
_ATTEMPTS_OF_A_SAMPLE = 5


class ServerEngine:
    """A `RolloutEngine` over one or several vLLM servers.

    Every process of a run sends its own requests; the first one starts the servers and gives them weights. What a
    server may be given is decided in `masa.rollout.health`; a thread per server observes it. Requests of a server that
    dies go to the others, and a server that returns is given the weights before it is given work.

    Args:
        model: the policy, whose architecture and type started servers take.
        section: the configuration of rollouts.
        stop_ids: token ids that end a response.
        max_model_len: longest prompt and response together, in tokens, of started servers.
        tokenizer: the policy's tokenizer, which started servers are given; null: as the model's path says.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.weight_version = 0
        self.weight_dtype: torch.dtype = getattr(torch, engine_dtype(model, section))
        self._section = section
        self._stop_ids = sorted(set(stop_ids))
        self._main = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        self._run = uuid.uuid4().hex[:12]
        self._label = ""
        self._statistics = EngineStatistics()
        self._stopping = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="masa-servers-"))
        self._started = StartedServers()
        backend, self._transfer = make_transfer(section, self._folder, self._run)
        try:
            addresses = [ServerClient(address).address for address in section.servers]
            if self._main and not addresses:
                arguments = server_arguments(
                    model, section, max_model_len, self._folder, backend=backend, tokenizer=tokenizer
                )
                addresses = self._started.start(section, self._folder, arguments)
            self._run, addresses = _from_first_process((self._run, addresses))
            self._clients = {address: ServerClient(address) for address in addresses}
            self._metrics = {address: ServerMetrics() for address in addresses}
            self._observing = {address: threading.Lock() for address in addresses}
            self._fleet = Fleet(self._clients, clock, section.server_patience)
            self._names = {
                address: wait_until_up(client, self._started.get(address), section.server_wait)
                for address, client in self._clients.items()
            }
        except BaseException:
            self._release()
            raise
        for address in self._clients:
            threading.Thread(target=self._observe, args=(address,), daemon=True, name=f"masa-{address}").start()

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

        Raises:
            RolloutError: no server could be used for ``server_wait`` seconds, or one refused a request.
        """
        started = time.perf_counter()
        samples = [(request, index) for request in requests for index in range(len(request.seeds))]
        dispatcher = Dispatcher(
            [len(request.seeds) for request in requests],
            list(self._clients),
            lambda address: self._fleet[address].takes_work,
        )
        attempts = [0] * len(samples)
        threads = [
            threading.Thread(target=self._work, args=(address, samples, dispatcher, attempts, started), daemon=True)
            for address in self._clients
            for _ in range(min(self._section.max_batch_size, len(samples)))
        ]
        try:
            for thread in threads:
                thread.start()
            while not dispatcher.wait(_LOOK_EVERY):
                self._require_servers()
        except BaseException as error:
            dispatcher.abort(error)
            for client in self._clients.values():
                client.cut()
            raise
        results = iter(dispatcher.results)
        rollouts = [[_present(next(results)) for _ in request.seeds] for request in requests]
        self._statistics.sampled(rollouts, time.perf_counter() - started)
        return rollouts

    def update_weights(self, weights: Weights, version: int) -> None:
        """Give all servers the policy's parameters, inside a pause; they forget what they cached under the old ones.

        All processes of a run call it together. A server that fails is dead until it answers again.

        Raises:
            RolloutError: no server could be updated for ``server_wait`` seconds.
        """
        label = f"{self._run}-{version}"
        tensors = named_tensors(weights)
        with ExitStack() as stack:
            for lock in self._observing.values():
                stack.enter_context(lock)
            self._label = label
            self.weight_version = version
            if self._main:
                clients = [self._clients[address] for address in self._fleet.updatable()]
                failures = self._transfer.send(clients, tensors, label)
                for client in clients:
                    if client.address in failures:
                        self._fleet.update_failed(client.address)
                    else:
                        self._fleet.updated(client.address)
            else:
                for _ in tensors:
                    continue
        updated = _from_first_process(self._fleet.working())
        if not self._main:
            for address in self._clients:
                if address in updated:
                    self._fleet.updated(address)
                else:
                    self._fleet.update_failed(address)
        while not self._fleet.working():
            self._require_servers()
            self._stopping.wait(_LOOK_EVERY)

    def sleep(self) -> None:
        """Servers have their own memory, and keep it."""

    def wake(self) -> None:
        """Servers never sleep."""

    def statistics(self) -> dict[str, float]:
        """Speed, time to first token, queues, KV usage, preemptions and prefix hits since the last call."""
        for address, metrics in self._metrics.items():
            text = self._try(address, lambda client: client.get("/metrics", timeout=_ANSWER_WITHIN))
            if text is not None:
                metrics.read(str(text), self._statistics)
        values = self._statistics.reading()
        values["rollout/servers_working"] = float(len(self._fleet.working()))
        return values

    def checksums(self) -> list[int]:
        """The checksum of each working server's weights; of those alone that run `masa.rollout.vllm_worker`."""
        if self._section.tensor_parallel_size > 1:
            return []
        found: list[int] = []
        for address in self._fleet.working():
            answer = self._try(
                address, lambda client: client.post("/collective_rpc", {"method": "masa_checksum"}, timeout=60.0)
            )
            found += [int(value) for value in answer["results"]] if answer else []
        return found

    def describe(self) -> str:
        """Each server and its state."""
        return self._fleet.describe()

    def close(self) -> None:
        """Give up what is being sampled, and end the servers that were started here."""
        self._stopping.set()
        for client in self._clients.values():
            client.cut()
        self._release()

    def _work(
        self,
        address: str,
        samples: Sequence[tuple[RolloutRequest, int]],
        dispatcher: Dispatcher,
        attempts: list[int],
        started: float,
    ) -> None:
        """Make samples on one server until there are none."""
        while (number := dispatcher.take(address)) is not None:
            try:
                rollout = self._complete(address, *samples[number], started)
            except RequestRefusedError as error:
                dispatcher.abort(RolloutError(f"problem {samples[number][0].problem_id!r}: {error}"))
            except ServerError as error:
                refused = isinstance(error, ServerRefusedError)
                (self._fleet.refused if refused else self._fleet.failed)(address)
                attempts[number] += not refused
                if attempts[number] >= _ATTEMPTS_OF_A_SAMPLE:
                    message = f"{attempts[number]} servers failed on one request, the last with: {error}"
                    dispatcher.abort(RolloutError(f"problem {samples[number][0].problem_id!r}: {message}"))
                dispatcher.give_back(number, address)
            except Exception as error:
                dispatcher.abort(error)
            else:
                dispatcher.finish(number, rollout)

    def _complete(self, address: str, request: RolloutRequest, index: int, started: float) -> Rollout:
        body = completion_body(request, index, model=self._names[address], stop_ids=self._stop_ids)
        answer = self._clients[address].post("/v1/completions", body, timeout=None)
        return completed_rollout(request, index, answer, self.weight_version, time.perf_counter() - started)

    def _observe(self, address: str) -> None:
        """Watch one server until the engine closes: is it there, with which weights; bring it back if it can be."""
        while not self._stopping.wait(_LOOK_EVERY):
            # Not while weights change: a server then has neither the old nor the new ones.
            with self._observing[address]:
                try:
                    self._look(address)
                    self._bring_back(address)
                except ServerRefusedError:
                    self._fleet.refused(address)
                    process = self._started.get(address)
                    if process is not None:
                        process.restart_if_ended()
                except ServerError:
                    self._fleet.failed(address)
            if self._fleet[address].state == "dead":
                self._clients[address].cut()

    def _look(self, address: str) -> None:
        client = self._clients[address]
        client.get("/health", timeout=_ANSWER_WITHIN)
        info = client.get("/weight_info", timeout=_ANSWER_WITHIN)
        current = info["weight_version"] == self._label
        health = self._fleet.answered(address, current=current)
        if current and health.state == "rejoining" and not self._main:
            self._fleet.updated(address)
        if health.takes_work:
            self._metrics[address].look(str(client.get("/metrics", timeout=_ANSWER_WITHIN)), self._statistics)

    def _bring_back(self, address: str) -> None:
        """Give a server that has returned the weights that were sent last."""
        wanted = self._main and self._label and self._fleet[address].state == "rejoining"
        if wanted and self._transfer.send_again(self._clients[address]):
            self._fleet.updated(address)

    def _require_servers(self) -> None:
        """Give up when there has been no server to use for too long."""
        if self._stopping.is_set():
            raise RolloutError("the engine was closed while it sampled")
        idle = self._fleet.idle_seconds()
        if idle > self._section.server_wait:
            raise RolloutError(
                f"no rollout server could be used for {idle:.0f} seconds (rollout.server_wait is "
                f"{self._section.server_wait:g}): {self._fleet.describe()}. Resume the run from its last checkpoint "
                "when servers are back"
            )

    def _try(self, address: str, call: Callable[[ServerClient], Any]) -> Any:
        try:
            return call(self._clients[address])
        except ServerError:
            return None

    def _release(self) -> None:
        self._started.close()
        self._transfer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _present(rollout: Rollout | None) -> Rollout:
    assert rollout is not None
    return rollout


def _from_first_process(value: Any) -> Any:
    """What the run's first process has as ``value``."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
