"""The state machine of servers: no clock, no socket, only what was observed when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.rollout.servers.health import Fleet, ServerHealth


def _health(state: str, since: float = 0.0) -> ServerHealth:
    return ServerHealth(state, since, patience=10.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        ("healthy", lambda one: one.answered(5.0, current=True), "healthy"),
        ("suspect", lambda one: one.answered(5.0, current=True), "healthy"),
        ("dead", lambda one: one.answered(5.0, current=True), "rejoining"),
        ("rejoining", lambda one: one.answered(5.0, current=True), "rejoining"),
        ("healthy", lambda one: one.answered(5.0, current=False), "rejoining"),
        ("suspect", lambda one: one.answered(5.0, current=False), "rejoining"),
        ("dead", lambda one: one.answered(5.0, current=False), "rejoining"),
        ("healthy", lambda one: one.failed(5.0), "suspect"),
        ("suspect", lambda one: one.failed(9.9), "suspect"),
        ("suspect", lambda one: one.failed(10.0), "dead"),
        ("rejoining", lambda one: one.failed(5.0), "dead"),
        ("dead", lambda one: one.failed(5.0), "dead"),
        ("healthy", lambda one: one.refused(5.0), "dead"),
        ("suspect", lambda one: one.refused(5.0), "dead"),
        ("rejoining", lambda one: one.updated(5.0), "healthy"),
        ("suspect", lambda one: one.updated(5.0), "healthy"),
        ("rejoining", lambda one: one.update_failed(5.0), "dead"),
        ("healthy", lambda one: one.update_failed(5.0), "dead"),
    ],
)
def test_each_observation_leads_to_one_state(state: str, event: object, expected: str) -> None:
    assert event(_health(state)).state == expected  # type: ignore[operator]


def test_a_state_keeps_the_time_at_which_it_began() -> None:
    suspect = _health("healthy").failed(3.0)
    assert suspect.since == 3.0
    assert suspect.failed(7.0).since == 3.0
    assert suspect.failed(13.0).state == "dead"


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["answered", "stale", "failed", "refused", "updated", "update_failed"]), st.floats(0.0, 20.0)
    ),
    max_size=30,
)


@given(_EVENTS)
def test_a_server_that_was_dead_works_only_after_an_update(events: list[tuple[str, float]]) -> None:
    server, now, owed = _health("rejoining"), 0.0, True
    for event, wait in events:
        now += wait
        if event in ("answered", "stale"):
            server = server.answered(now, current=event == "answered")
        else:
            server = getattr(server, event)(now)
        owed = event != "updated" and (owed or server.state in ("dead", "rejoining"))
        assert server.takes_work <= (not owed)


def test_a_fleet_counts_the_seconds_without_a_working_server() -> None:
    now = [100.0]
    fleet = Fleet(["a", "b"], lambda: now[0], patience=10.0)
    now[0] = 105.0
    assert fleet.idle_seconds() == 5.0
    fleet.updated("a")
    now[0] = 200.0
    assert fleet.idle_seconds() == 0.0
    now[0] = 300.0
    fleet.refused("a")
    now[0] = 307.0
    assert fleet.idle_seconds() == 7.0, "the time before the last server died does not count"
    assert fleet.working() == []
    assert fleet.updatable() == ["b"]
    assert fleet.describe() == "a dead, b rejoining"
