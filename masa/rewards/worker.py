"""What runs inside a verifier worker: limits on the process, and one chunk of items at a time."""

from __future__ import annotations

import json
import multiprocessing.forkserver
import os
import resource
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from masa.rewards.sandbox.isolation import die_with_parent
from masa.rewards.verdict import Judgement, Status
from masa.rewards.verifiers import Limits, judge, resolve_verifier

_MAX_EXTRACTED_CHARACTERS = 2_000
_MAX_TRACE_CHARACTERS = 4_000
# The exit code of a worker that gives up its memory on purpose after an item ran into the limit.
EXIT_AFTER_MEMORY_ERROR = 77
_OUT_OF_MEMORY = "out of memory: the verifier ran into its worker's limit"


def initialize(memory_limit_mb: int) -> None:
    """Make this process die with its parent, bound its memory, and leave no core dumps."""
    die_with_parent()
    # Every worker inherits the pipe end that keeps the fork server alive; only the main process may hold it, so that
    # the server ends with it, and the workers with the server.
    server: Any = multiprocessing.forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    limit = memory_limit_mb * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def warm_up() -> int:
    return os.getpid()


def run_chunk(payload: bytes, log_path: str, time_limit: float, memory_limit_mb: int) -> None:
    """Verify the items of ``payload`` and write what happens to ``log_path``, line by line.

    An item's number alone means that it started; number and verdict mean that it is done. The process may be killed at
    any point: the pool reads the verdicts of the items that were done and knows which item it died of. The kernel's
    interval timer does the killing, so neither C code that never returns nor a Python signal handler can delay it.
    """
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    limits = Limits(time_limit, memory_limit_mb, Path(log_path + ".scratch"))
    try:
        for number, item in json.loads(payload):
            os.write(log, f"{json.dumps([number])}\n".encode())
            started = time.perf_counter()
            status, judgement = _verify(item, limits)
            seconds = time.perf_counter() - started
            os.write(log, f"{json.dumps(_record(number, status, judgement, seconds))}\n".encode())
            if judgement.message == _OUT_OF_MEMORY:
                os._exit(EXIT_AFTER_MEMORY_ERROR)
    finally:
        os.close(log)


def _verify(item: dict[str, Any], limits: Limits) -> tuple[Status, Judgement]:
    try:
        # Importing a user's module is no part of the item's time.
        verifier = resolve_verifier(item["verifier"])
        signal.setitimer(signal.ITIMER_REAL, limits.seconds)
        judgement = judge(verifier, item, limits)
    except MemoryError:
        return "error", Judgement(0.0, message=_OUT_OF_MEMORY)
    except (Exception, SystemExit) as error:
        trace = "".join(traceback.format_exception(error))[-_MAX_TRACE_CHARACTERS:]
        return "error", Judgement(0.0, message=f"{type(error).__name__}: {str(error)[:300]}", trace=trace)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if judgement.timed_out:
        return "timeout", judgement
    if judgement.refused:
        return "refused", judgement
    return ("correct" if judgement.score >= 1 else "incorrect"), judgement


def _record(number: int, status: str, judgement: Judgement, seconds: float) -> list[Any]:
    extracted = judgement.extracted
    if extracted is not None and len(extracted) > _MAX_EXTRACTED_CHARACTERS:
        extracted = extracted[:_MAX_EXTRACTED_CHARACTERS] + "…"
    return [number, status, extracted, seconds, judgement.score, judgement.message, judgement.trace]
