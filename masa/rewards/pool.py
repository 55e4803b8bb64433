"""Verification in isolated worker processes: nothing a response holds can hang, crash or starve the caller."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessPool

from masa.rewards import worker
from masa.rewards.forkserver import WorkerContext
from masa.rewards.verdict import Status, Verdict
from masa.rewards.verifiers import BUILT_IN, check_verifier
from masa.rewards.verifiers.essence import essence

if TYPE_CHECKING:
    from masa.config.rewards import RewardsSection

__all__ = ["Verdict", "VerifierPool"]

ITEM_KEYS = ("verifier", "response", "answer", "options")
# Chunks save the round trip per item; small ones keep the workers evenly busy at the end.
_MAX_CHUNK = 32
_CHUNKS_PER_WORKER = 4
# A worker's own timer kills it on time; this much later the pool would do it.
_GRACE_SECONDS = 10.0
# A worker may die of something outside (the system's memory, an operator): its item gets this many tries.
_TRIES = 2
# This many chunks may be lost in a row with broken pools, without a verdict between, before the pool gives up.
_MAX_FAILURES = 50
# How often to look whether the pool still lives while nothing comes back.
_LOOK_SECONDS = 1.0
_TASKS_PER_WORKER = 500
_COUNTED: dict[str, Status] = {"timeouts": "timeout", "errors": "error", "refused": "refused"}


@dataclass
class _Chunk:
    """Items on their way; ``log`` is the file in which the worker notes its progress."""

    numbers: list[int]
    log: Path
    pool: ProcessPool


@dataclass
class _Batch:
    """One call of ``verify``: its different questions, each asked once."""

    encoded: list[str]
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)


class VerifierPool:
    """``workers`` processes that verify items; use as a context manager, or call ``close``.

    Each item has ``time_limit`` seconds of wall-clock time and each worker ``memory_limit_mb`` megabytes of address
    space. A worker that oversteps the time is killed by the kernel and replaced, at the cost of that item alone.
    Workers end with the process that started them. Verdicts do not depend on the number of workers; only an item that
    takes about as long as the limit can fall on either side of it.

    Raises:
        ValueError: no worker, or a limit that is not positive.
    """

    def __init__(self, workers: int = 2, time_limit: float = 5.0, memory_limit_mb: int = 1024) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}, at least 1 needed: responses are never verified in this process")
        if not (math.isfinite(time_limit) and time_limit > 0):
            raise ValueError(f"time_limit is {time_limit}, a positive number of seconds needed")
        if memory_limit_mb < 256:
            raise ValueError(f"memory_limit_mb is {memory_limit_mb}, at least 256 needed for the libraries alone")
        self.workers = workers
        self.time_limit = time_limit
        self.memory_limit_mb = memory_limit_mb
        self._counters = {"timeouts": 0, "errors": 0, "refused": 0, "crashes": 0}
        self._lock = threading.Lock()
        self._serial = itertools.count()
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._pool: ProcessPool | None = None
        self._closed = False

    @classmethod
    def of(cls, section: RewardsSection) -> VerifierPool:
        """A pool as a configuration's section ``rewards`` says."""
        return cls(section.verifier_workers, section.verifier_seconds, section.verifier_memory_mb)

    def __enter__(self) -> VerifierPool:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Bring the workers up (about a second the first time in a process); ``verify`` does it when needed."""
        for future in [self._running().schedule(worker.warm_up) for _ in range(self.workers)]:
            future.result()

    def close(self) -> None:
        """Stop the workers and remove their files; safe to call twice."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            directory, self._directory = self._directory, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()
        if directory is not None:
            directory.cleanup()

    @property
    def counters(self) -> dict[str, int]:
        """Since the last reset: ``timeouts``, ``errors``, ``refused`` (items by status), ``crashes`` (dead workers)."""
        with self._lock:
            return dict(self._counters)

    def reset_counters(self) -> dict[str, int]:
        """The counters up to now, which start from 0 again: what a trainer logs each step."""
        with self._lock:
            counted = dict(self._counters)
            self._counters = dict.fromkeys(counted, 0)
        return counted

    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """One verdict per item, in order.

        An item has ``verifier`` (a built-in name or ``module:function``), ``response`` (a str), ``answer`` (anything
        JSON can hold) and, for ``choice``, optionally ``options``. Items that ask a built-in verifier the same (for
        ``math``: the same final answer for the same gold answer) are settled once, timeouts included; each of them is
        counted.

        Raises:
            ValueError: an item is malformed or names an unknown verifier; nothing has been started then.
            RuntimeError: the pool is closed, or workers cannot be kept alive on this machine.
        """
        encoded = [_encode(index, item) for index, item in enumerate(items)]
        for name in dict.fromkeys(item["verifier"] for item in items):
            check_verifier(name)
        number_of: dict[Hashable, int] = {}
        questions: list[str] = []
        numbers: list[int] = []
        for index, item in enumerate(items):
            # A user's verifier may answer differently each time it is asked: every item is a question of its own.
            question: Hashable = essence(item, encoded[index]) if item["verifier"] in BUILT_IN else index
            if question not in number_of:
                number_of[question] = len(questions)
                questions.append(encoded[index])
            numbers.append(number_of[question])
        batch = _Batch(questions)
        self._work(batch, deque(_chunks(len(questions), self.workers)))
        verdicts = [batch.verdicts[number] for number in numbers]
        with self._lock:
            for counter, status in _COUNTED.items():
                self._counters[counter] += sum(verdict.status == status for verdict in verdicts)
        return verdicts

    def _work(self, batch: _Batch, waiting: deque[list[int]]) -> None:
        running: dict[Future[Any], _Chunk] = {}
        failures = 0
        try:
            while waiting or running:
                while waiting:
                    future, chunk = self._submit(batch, waiting.popleft())
                    running[future] = chunk
                finished, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                # A pool that broke forgets what was still in its queue.
                lost = {future for future, chunk in running.items() if not future.done() and not chunk.pool.active}
                for future in finished | lost:
                    error = BrokenExecutor("the pool stopped") if future in lost else future.exception()
                    before = len(batch.verdicts)
                    waiting.extend(self._settle(batch, running.pop(future), error))
                    if isinstance(error, BrokenExecutor):
                        failures = 0 if len(batch.verdicts) > before else failures + 1
                        if failures > _MAX_FAILURES:
                            raise RuntimeError(f"verifier workers cannot be kept alive ({_reason(error)})") from error
        finally:
            for future in running:
                future.cancel()

    def _submit(self, batch: _Batch, numbers: list[int]) -> tuple[Future[Any], _Chunk]:
        pool = self._running()
        assert self._directory is not None
        chunk = _Chunk(numbers, Path(self._directory.name) / f"chunk-{next(self._serial)}", pool)
        payload = "[" + ",".join(f"[{number},{batch.encoded[number]}]" for number in numbers) + "]"
        arguments = (payload.encode("ascii"), str(chunk.log), self.time_limit, self.memory_limit_mb)
        backstop = len(numbers) * self.time_limit + _GRACE_SECONDS
        try:
            return pool.schedule(worker.run_chunk, args=arguments, timeout=backstop), chunk
        except RuntimeError as error:
            # The pool broke since it was looked at; settled like a chunk that it lost.
            failed: Future[Any] = Future()
            failed.set_exception(BrokenExecutor(str(error)))
            return failed, chunk

    def _settle(self, batch: _Batch, chunk: _Chunk, error: BaseException | None) -> Iterator[list[int]]:
        """Take over what the worker noted; gives the chunks of what is left to do."""
        started = _read_log(chunk.log, batch.verdicts)
        left = [number for number in chunk.numbers if number not in batch.verdicts]
        if not left:
            return
        # Items are taken in order, so the first one left is the one the worker was at, if it was at any.
        guilty = left[0]
        gave_up_memory = isinstance(error, ProcessExpired) and error.exitcode == worker.EXIT_AFTER_MEMORY_ERROR
        if started != guilty and (gave_up_memory or isinstance(error, BrokenExecutor)):
            yield left
            return
        if started == guilty and _ran_out_of_time(error):
            batch.verdicts[guilty] = Verdict(
                False, "timeout", seconds=self.time_limit, message=f"killed after {self.time_limit:g} s"
            )
        else:
            with self._lock:
                self._counters["crashes"] += 1
            batch.deaths[guilty] = batch.deaths.get(guilty, 0) + 1
            if batch.deaths[guilty] >= _TRIES:
                batch.verdicts[guilty] = Verdict(False, "error", message=f"the worker died: {_reason(error)}")
            else:
                yield [guilty]
        # The rest may hang as well (answers of one problem are much alike), so all workers take it, item by item.
        for number in left[1:]:
            yield [number]

    def _running(self) -> ProcessPool:
        with self._lock:
            if self._closed:
                raise RuntimeError("the verifier pool is closed")
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="masa-verify-", ignore_cleanup_errors=True)
            if self._pool is not None and not self._pool.active:
                # An idle worker that was killed from outside breaks a whole pebble pool.
                self._counters["crashes"] += 1
                self._pool.stop()  # type: ignore[no-untyped-call]
                self._pool.join()
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=self.workers,
                    max_tasks=_TASKS_PER_WORKER,
                    initializer=worker.initialize,
                    initargs=(self.memory_limit_mb,),
                    context=WorkerContext(),
                )
            return self._pool


def _encode(index: int, item: Mapping[str, Any]) -> str:
    unknown = sorted(set(item) - set(ITEM_KEYS))
    missing = [key for key in ITEM_KEYS[:3] if key not in item]
    if unknown or missing:
        problem = f"unknown keys {unknown}" if unknown else f"missing keys {missing}"
        raise ValueError(f"item {index} has {problem}; allowed: {', '.join(ITEM_KEYS)}")
    for key in ("verifier", "response"):
        if not isinstance(item[key], str):
            raise ValueError(f"item {index}: {key} is a {type(item[key]).__name__}, a str needed")
    try:
        # ASCII escapes carry null bytes and lone surrogates unchanged.
        return json.dumps(dict(item))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"item {index}: answer and options must be what JSON can hold ({error})") from error


def _chunks(count: int, workers: int) -> Iterator[list[int]]:
    size = max(1, min(_MAX_CHUNK, math.ceil(count / (workers * _CHUNKS_PER_WORKER))))
    for start in range(0, count, size):
        yield list(range(start, min(start + size, count)))


def _read_log(log: Path, verdicts: dict[int, Verdict]) -> int | None:
    """Adds the verdicts noted in ``log``; the number of the last item started. Removes the worker's files."""
    started = None
    if log.exists():
        for line in log.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue  # the process died while it wrote
            number, *verdict = json.loads(line)
            if verdict:
                status, extracted, seconds, score, message, trace = verdict
                verdicts[number] = Verdict(status == "correct", status, extracted, seconds, score, message, trace)
            else:
                started = number
        log.unlink()
    shutil.rmtree(f"{log}.scratch", ignore_errors=True)
    return started


def _ran_out_of_time(error: BaseException | None) -> bool:
    if isinstance(error, ProcessExpired):
        return bool(error.exitcode == -signal.SIGALRM)
    return isinstance(error, TimeoutError)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ProcessExpired):
        return f"exit code {error.exitcode}"
    return f"{type(error).__name__}: {error}"
