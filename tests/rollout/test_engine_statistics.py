"""What engines report, as metrics."""

from types import SimpleNamespace
from typing import Any

import pytest

from masa.flow.staleness import record_staleness
from masa.rollout import Rollout
from masa.rollout.servers.metrics import ServerMetrics, parse_metrics
from masa.rollout.statistics import EngineStatistics
from masa.tracking.metrics import StepMetrics

ROLLOUT = Rollout("p", "solution", 0, (5,), (7, 8, 1), (-0.5, -0.1, -0.2), "stop", 2, 0.0)


def test_a_reading_covers_what_happened_since_the_last_one() -> None:
    statistics = EngineStatistics()
    cache = SimpleNamespace(queries=100, hits=60)
    for running, waiting, usage in ((3, 2, 0.5), (2, 0, 0.75)):
        scheduler = SimpleNamespace(
            num_running_reqs=running, num_waiting_reqs=waiting, kv_cache_usage=usage, prefix_cache_stats=cache
        )
        statistics.record(scheduler, SimpleNamespace(num_preempted_reqs=1, time_to_first_tokens_iter=[0.25, 0.75]))
    statistics.sampled([[ROLLOUT, ROLLOUT]], 0.5)
    assert statistics.reading() == {
        "time/tokens_per_second": 12.0,
        "time/first_token": 0.5,
        "rollout/requests_running": 3.0,
        "rollout/requests_waiting": 2.0,
        "rollout/kv_usage": 0.75,
        "rollout/preemptions": 2.0,
        "rollout/prefix_hit_rate": 0.6,
    }
    assert statistics.reading() == {}


def test_staleness_is_counted_in_updates_since_the_weights_that_made_a_rollout() -> None:
    metrics = StepMetrics()
    group: Any = SimpleNamespace(solutions=(ROLLOUT,), metas=(ROLLOUT,))
    record_staleness(metrics, [group, group], step=4)
    assert metrics.flatten() == {"rollout/staleness": 1.0, "rollout/staleness_max": 1.0}


PAGE = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:prefix_cache_queries_total{engine="0"} %d
vllm:prefix_cache_hits_total{engine="0"} %d
vllm:time_to_first_token_seconds_sum{engine="0"} 4.0
vllm:time_to_first_token_seconds_count{engine="0"} 8.0
python_gc_objects 1.0
"""


def test_a_servers_totals_become_what_was_added_also_after_it_began_anew() -> None:
    statistics, server = EngineStatistics(), ServerMetrics()
    server.look(PAGE % (0, 0), statistics)
    server.read(PAGE % (10, 4), statistics)
    values = statistics.reading()
    assert values["rollout/requests_running"] == 4.0
    assert values["rollout/prefix_hit_rate"] == pytest.approx(0.4)
    assert values["time/first_token"] == pytest.approx(0.5)
    for queried, found, expected in ((30, 14, 0.5), (5, 1, 0.2)):
        server.look(PAGE % (0, 0), statistics)
        server.read(PAGE % (queried, found), statistics)
        assert statistics.reading()["rollout/prefix_hit_rate"] == pytest.approx(expected)


def test_lines_that_are_not_vllms_are_passed_over() -> None:
    assert "python_gc_objects" not in parse_metrics(PAGE % (1, 1))
