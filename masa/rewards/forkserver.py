"""A process context whose workers start in milliseconds and know nothing of the program that started them.

Plain ``fork`` would copy a process full of torch threads; ``spawn`` would import sympy anew for each worker, and both
standard alternatives run the user's main script again in every worker. Here one small server process, started once,
imports what verifiers need and forks each worker from that state. The main script is never imported, so a training
script needs no ``if __name__ == "__main__"`` guard, and its torch import costs the workers nothing.
"""

from __future__ import annotations

import io
import os
import threading
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from typing import Any

_PRELOAD = ["masa.rewards.warm_start"]


class _Server(forkserver.ForkServer):
    def ensure_running(self) -> None:
        # sympy's ordering may follow string hashes: a fixed seed makes verdicts repeat from run to run.
        with _environment_lock:
            before = os.environ.get("PYTHONHASHSEED")
            os.environ["PYTHONHASHSEED"] = "0"
            try:
                super().ensure_running()
            finally:
                if before is None:
                    del os.environ["PYTHONHASHSEED"]
                else:
                    os.environ["PYTHONHASHSEED"] = before


_environment_lock = threading.Lock()
_server = _Server()
_server.set_forkserver_preload(_PRELOAD)


def _close_descriptors(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Popen(popen_forkserver.Popen):
    """The standard launch with this module's server, and without the instruction to import the main script."""

    def _launch(self, process_obj: Any) -> None:
        preparation = spawn.get_preparation_data(process_obj._name)
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            for part in (preparation, process_obj):
                reduction.dump(part, message)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, writer = _server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The second descriptor tells the child that its parent lives.
        self.finalizer = util.Finalize(self, _close_descriptors, (os.dup(writer), self.sentinel))
        with open(writer, "wb") as pipe:
            pipe.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 (the name multiprocessing calls)
        return _Popen(process_obj)


class WorkerContext(context.ForkServerContext):
    """What pebble takes as its multiprocessing context."""

    Process = _Process
