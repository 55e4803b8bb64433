"""What an engine did between two readings, as metrics: speed, queues, cache, preemptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from masa.rollout.engine import Rollout


class EngineStatistics:
    """Collects what one engine reports while it samples.

    `record` has the signature of vLLM's stat loggers and is called by its engine after each of its steps. What depends
    on the clock lives under ``time/``, as in all metrics.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._tokens = 0
        self._seconds = 0.0
        self._first_tokens: list[float] = []
        self._running = 0
        self._waiting = 0
        self._cache_usage = 0.0
        self._preemptions = 0
        self._queried = 0
        self._found = 0
        self._steps = 0
        self._memory: dict[str, float] = {}

    def sampled(self, rollouts: Iterable[Sequence[Rollout]], seconds: float) -> None:
        """One call of ``generate`` made ``rollouts`` and took ``seconds``."""
        self._tokens += sum(len(rollout.token_ids) for group in rollouts for rollout in group)
        self._seconds += seconds

    def record(self, scheduler: Any, iteration: Any, mm_cache_stats: Any = None, engine_idx: int = 0) -> None:
        """One step of a vLLM engine: its ``SchedulerStats`` and ``IterationStats`` (either may be None)."""
        if scheduler is not None:
            self._steps += 1
            self._running = max(self._running, scheduler.num_running_reqs)
            self._waiting = max(self._waiting, scheduler.num_waiting_reqs)
            self._cache_usage = max(self._cache_usage, scheduler.kv_cache_usage)
            if scheduler.prefix_cache_stats is not None:
                self._queried += scheduler.prefix_cache_stats.queries
                self._found += scheduler.prefix_cache_stats.hits
        if iteration is not None:
            self._preemptions += iteration.num_preempted_reqs
            self._first_tokens.extend(iteration.time_to_first_tokens_iter)

    def log(self) -> None:
        """Part of vLLM's interface: it prints nothing, the metrics say it."""

    def log_engine_initialized(self) -> None:
        """Part of vLLM's interface: it prints nothing."""

    def first_tokens(self, seconds: Iterable[float]) -> None:
        """Seconds from sending requests to their first tokens."""
        self._first_tokens.extend(seconds)

    def counted(self, *, running: float, waiting: float, cache_usage: float) -> None:
        """One look at an engine that is asked instead of reporting itself."""
        self._steps += 1
        self._running = max(self._running, int(running))
        self._waiting = max(self._waiting, int(waiting))
        self._cache_usage = max(self._cache_usage, cache_usage)

    def totals(self, *, preemptions: float, queried: float, found: float) -> None:
        """What was added to an engine's running totals since the last look."""
        self._preemptions += int(preemptions)
        self._queried += int(queried)
        self._found += int(found)

    def memory(self, name: str, gigabytes: float) -> None:
        """Device memory in use at a moment called ``name``, such as ``awake`` or ``asleep``."""
        self._memory[name] = gigabytes

    def reading(self) -> dict[str, float]:
        """The metrics since the last reading; values that nothing was reported for are left out."""
        values = {f"rollout/memory_gb_{name}": value for name, value in self._memory.items()}
        if self._seconds > 0:
            values["time/tokens_per_second"] = self._tokens / self._seconds
        if self._first_tokens:
            values["time/first_token"] = sum(self._first_tokens) / len(self._first_tokens)
        if self._steps:
            values["rollout/requests_running"] = float(self._running)
            values["rollout/requests_waiting"] = float(self._waiting)
            values["rollout/kv_usage"] = float(self._cache_usage)
            values["rollout/preemptions"] = float(self._preemptions)
            if self._queried:
                values["rollout/prefix_hit_rate"] = self._found / self._queried
        self._reset()
        return values
