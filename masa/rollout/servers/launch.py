"""Starting vLLM servers on this machine, each under a guardian that outlives neither it nor this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from masa.config import ConfigError
from masa.rollout.engine import RolloutError
from masa.rollout.servers import guardian
from masa.rollout.servers.http_client import RequestRefusedError, ServerClient, ServerError
from masa.rollout.vllm.arguments import command_line, vllm_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.config.schema import RolloutSection

_SECONDS_TO_STOP = 15.0
_RESTARTS = 3
_LOOK_EVERY = 0.5
_ANSWER_WITHIN = 5.0
_WORKER_EXTENSION = "masa.rollout.vllm.worker.WorkerExtension"
_ENVIRONMENT = {
    # The routes for weights, pausing and cache are served in this mode only.
    "VLLM_SERVER_DEV_MODE": "1",
    # So are those for LoRA's adapters.
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
# On a CPU the worker may live in its engine's process, where vLLM is told that there are no others: a process less, and
# ten seconds less of importing.
_ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


class ServerProcess:
    """One server on a free port of this machine; `start` starts it, again where it has ended.

    Args:
        options: the command line of vLLM's server, without address.
        log: where its output goes.
        devices: ``CUDA_VISIBLE_DEVICES``; None: as in this process.
        threads: CPU threads, ``OMP_NUM_THREADS``; None: as in this process.
        environment: further variables, where the user has not set them.
    """

    def __init__(
        self,
        options: Sequence[str],
        log: Path,
        *,
        devices: str | None = None,
        threads: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._options = list(options)
        self._environment = {**_ENVIRONMENT, **(environment or {})}
        self.log = log
        self._devices = devices
        self._threads = threads
        self._port = _free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._restarts_left = _RESTARTS
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def start(self) -> None:
        environment = {**self._environment, **os.environ}
        if self._devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices
        if self._threads is not None:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        # The server is no part of the trainer's process group.
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *self._options]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, guardian.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def restart_if_ended(self) -> None:
        """Start a server that has ended again, a few times; one that keeps ending is left alone."""
        with self._lock:
            if not self.running and self._restarts_left and not self._stopped:
                self._restarts_left -= 1
                self.start()

    def restart(self) -> None:
        """End a server that does not answer any more, and start it again, a few times."""
        with self._lock:
            if not self._restarts_left or self._stopped:
                return
            self._restarts_left -= 1
            self._close_pipe()
            self.wait()
            self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        """The end of the server's output, for messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(lines[-3:])

    def ask_to_stop(self) -> None:
        """Let the guardian end the server; `wait` waits for it."""
        with self._lock:
            self._stopped = True
            self._close_pipe()

    def wait(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _close_pipe(self) -> None:
        pipe: IO[bytes] | None = self._process.stdin if self._process is not None else None
        if pipe is not None:
            pipe.close()


class StartedServers:
    """The servers that this process has started, by address."""

    def __init__(self) -> None:
        self._processes: dict[str, ServerProcess] = {}

    def start(self, section: RolloutSection, files: Path, arguments: dict[str, Any]) -> list[str]:
        """Start ``num_servers`` servers with ``arguments``, whose logs go to ``files``; their addresses.

        Raises:
            ConfigError: not as many devices as servers.
        """
        devices: list[str | None] = [*section.server_devices] or [None] * section.num_servers
        if len(devices) != section.num_servers:
            raise ConfigError(
                f"rollout.server_devices: found {len(devices)} entries, allowed: rollout.num_servers, "
                f"which is {section.num_servers}"
            )
        threads = None if torch.cuda.is_available() else max(1, torch.get_num_threads() // len(devices))
        for number, device in enumerate(devices):
            log = files / f"server-{number}.log"
            process = ServerProcess(
                command_line(arguments),
                log,
                devices=device,
                threads=threads,
                environment=_ONE_PROCESS if _in_one_process(section) else None,
            )
            self._processes[process.address] = process
            process.start()
        return list(self._processes)

    def get(self, address: str) -> ServerProcess | None:
        """The process behind ``address``; None where somebody else has started it."""
        return self._processes.get(address)

    def close(self) -> None:
        """End them all; none is started again."""
        for process in self._processes.values():
            process.ask_to_stop()
        for process in self._processes.values():
            process.wait()


def server_arguments(
    model: PreTrainedModel,
    section: RolloutSection,
    max_model_len: int,
    folder: Path,
    *,
    backend: str,
    tokenizer: PreTrainedTokenizerBase | None,
) -> dict[str, Any]:
    """Arguments of a server for ``model``; ``folder`` is given the model's configuration and tokenizer.

    Args:
        backend: what vLLM knows the way of the weights as.
        tokenizer: the policy's; None: as the model's path says.
    """
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path)
    # vLLM's OpenAI routes insist on a tokenizer.
    tokenizer.save_pretrained(folder)
    return {
        **vllm_arguments(model, section, max_model_len, folder, not torch.cuda.is_available()),
        **({"distributed_executor_backend": "uni"} if _in_one_process(section) else {}),
        "worker_extension_cls": _WORKER_EXTENSION,
        "weight_transfer_config": {"backend": backend},
    }


def _in_one_process(section: RolloutSection) -> bool:
    return not torch.cuda.is_available() and section.tensor_parallel_size == 1


def wait_until_up(client: ServerClient, process: ServerProcess | None, seconds: float) -> str:
    """Wait for a server, whose ``process`` is known where it was started here; the name of the model that it serves.

    Raises:
        RolloutError: it ended, was not up within ``seconds``, or does not offer what is needed.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.get("/health", timeout=_ANSWER_WITHIN)
            client.get("/weight_info", timeout=_ANSWER_WITHIN)
            return str(client.get("/v1/models", timeout=_ANSWER_WITHIN)["data"][0]["id"])
        except RequestRefusedError as error:
            raise RolloutError(
                f"{error}. Rollout servers need vLLM 0.28 or later and the environment variable VLLM_SERVER_DEV_MODE=1"
            ) from error
        except ServerError as error:
            ended = process is not None and not process.running
            if ended or time.monotonic() > deadline:
                words = f"; the end of its log: {process.last_words()}" if process is not None else ""
                how = "ended while it started" if ended else f"was not up in {seconds:g} seconds"
                raise RolloutError(f"server {client.address} {how} ({error}){words}") from error
        time.sleep(_LOOK_EVERY)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
