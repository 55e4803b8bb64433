"""Reading a vLLM server's Prometheus metrics."""

from __future__ import annotations

import re

from masa.rollout.statistics import EngineStatistics

_LINE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_TOTALS = {
    "preemptions": "vllm:num_preemptions_total",
    "queried": "vllm:prefix_cache_queries_total",
    "found": "vllm:prefix_cache_hits_total",
    "first_token_seconds": "vllm:time_to_first_token_seconds_sum",
    "first_tokens": "vllm:time_to_first_token_seconds_count",
}


class ServerMetrics:
    """One server's metrics; its running totals are turned into what was added since the last reading."""

    def __init__(self) -> None:
        self._totals = dict.fromkeys(_TOTALS, 0.0)

    def look(self, text: str, statistics: EngineStatistics) -> None:
        """Note what the server is doing right now."""
        values = parse_metrics(text)
        statistics.counted(
            running=values.get("vllm:num_requests_running", 0.0),
            waiting=values.get("vllm:num_requests_waiting", 0.0),
            cache_usage=values.get("vllm:kv_cache_usage_perc", 0.0),
        )

    def read(self, text: str, statistics: EngineStatistics) -> None:
        """Note what the server has done since the last reading; a server that began anew begins from zero."""
        values = parse_metrics(text)
        totals = {name: values.get(key, 0.0) for name, key in _TOTALS.items()}
        if any(totals[name] < self._totals[name] for name in totals):
            self._totals = dict.fromkeys(_TOTALS, 0.0)
        added = {name: totals[name] - self._totals[name] for name in totals}
        self._totals = totals
        statistics.totals(preemptions=added["preemptions"], queried=added["queried"], found=added["found"])
        if added["first_tokens"]:
            statistics.first_tokens([added["first_token_seconds"] / added["first_tokens"]])


def parse_metrics(text: str) -> dict[str, float]:
    """vLLM's values by name, added up over labels (one for each engine of a server)."""
    values: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        values[name] = values.get(name, 0.0) + float(value)
    return values
