"""Samples are shared out, taken over and given back so that each is made exactly once."""

import random
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.rollout import Rollout
from masa.rollout.servers.dispatch import Dispatcher


def _rollout(number: int) -> Rollout:
    return Rollout("p", "solution", number, (5,), (7,), (-0.5,), "stop", 0, 0.0)


def _dispatcher(groups: Sequence[int], servers: Sequence[str], may_work: Callable[[str], bool]) -> Dispatcher:
    """Samples of requests to which nothing is added."""
    dispatcher = Dispatcher(servers, may_work)
    dispatcher.add(groups)
    dispatcher.close()
    return dispatcher


def test_the_samples_of_a_prompt_stay_together_and_an_idle_server_takes_over() -> None:
    dispatcher = _dispatcher([2, 2, 2], ["a", "b"], lambda _: True)
    assert [dispatcher.take("a"), dispatcher.take("a")] == [0, 1]
    assert [dispatcher.take("b"), dispatcher.take("b")] == [2, 3]
    assert dispatcher.take("b") == 5, "from the end of the other's queue"
    assert dispatcher.take("a") == 4


def test_a_second_result_of_a_sample_is_ignored() -> None:
    dispatcher = _dispatcher([1, 1], ["a"], lambda _: True)
    first, second = _rollout(0), _rollout(0)
    dispatcher.finish(0, first)
    dispatcher.finish(0, second)
    assert dispatcher.results[0] is first
    assert not dispatcher.wait(0.0)
    dispatcher.finish(1, _rollout(1))
    assert dispatcher.wait(0.0)


def test_a_sample_that_one_server_fails_at_is_made_by_another_that_works() -> None:
    working = {"a", "b"}
    dispatcher = _dispatcher([1, 1], ["a", "b"], working.__contains__)
    assert dispatcher.take("a") == 0
    for _ in range(3):
        assert dispatcher.failed(0, "a") == 0
    assert dispatcher.take("b") == 1
    assert dispatcher.take("b") == 0, "never a again while b works"
    dispatcher.give_back(0, "b")
    working.discard("b")
    assert dispatcher.take("a") == 0, "there is nobody else now"


def test_a_sample_is_hopeless_once_every_working_server_has_failed_often() -> None:
    working = {"a", "b"}
    dispatcher = _dispatcher([1], ["a", "b", "c"], working.__contains__)
    assert [dispatcher.failed(0, "a") for _ in range(6)] == [0] * 6, "b has not tried"
    assert dispatcher.failed(0, "b") == 7
    working.add("c")
    assert dispatcher.failed(0, "a") == 0


def test_threads_wait_without_looking_and_go_on_when_their_server_works_again() -> None:
    working: set[str] = set()
    looks: list[str] = []

    def may_work(server: str) -> bool:
        looks.append(threading.current_thread().name)
        return server in working

    dispatcher = _dispatcher([1], ["a"], may_work)
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(dispatcher.take("a")), name="worker")
    thread.start()
    for _ in range(30):
        assert not dispatcher.wait(0.02)
    assert looks.count("worker") <= 1
    working.add("a")
    assert not dispatcher.wait(0.02)
    thread.join(10)
    assert taken == [0]


def test_a_server_that_failed_and_works_again_between_two_looks_goes_on() -> None:
    working = {"a"}
    dispatcher = _dispatcher([1], ["a"], working.__contains__)
    assert not dispatcher.wait(0.0)
    working.discard("a")
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(dispatcher.take("a")))
    thread.start()
    while not dispatcher._changed._waiters:  # type: ignore[attr-defined]
        time.sleep(0.01)
    working.add("a")
    assert not dispatcher.wait(0.02)
    thread.join(10)
    assert taken == [0]


def test_threads_wait_for_samples_that_are_added_and_end_when_nothing_more_comes() -> None:
    dispatcher = Dispatcher(["a", "b"], lambda _: True)
    assert dispatcher.wait(0.0)

    def work(server: str) -> None:
        while (number := dispatcher.take(server)) is not None:
            dispatcher.finish(number, _rollout(number))

    threads = [threading.Thread(target=work, args=(server,)) for server in "ab"]
    for thread in threads:
        thread.start()
    made: list[int] = []
    for size in (3, 2):
        dispatcher.add([size])
        while not dispatcher.wait(5.0):
            made += [number for number, _ in dispatcher.news()]
        made += [number for number, _ in dispatcher.news()]
    dispatcher.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_an_error_frees_waiting_threads_and_is_raised() -> None:
    dispatcher = _dispatcher([1], ["a"], lambda _: False)
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(dispatcher.take("a")))
    thread.start()
    dispatcher.abort(RuntimeError("stop"))
    thread.join(10)
    assert taken == [None]
    with pytest.raises(RuntimeError, match="stop"):
        dispatcher.wait(1.0)


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.integers(1, 5), min_size=1, max_size=8), seed=st.integers(0, 10**6))
def test_every_sample_is_made_whatever_fails(groups: list[int], seed: int) -> None:
    dispatcher = _dispatcher(groups, ["a", "b", "c"], lambda _: True)

    def work(server: str) -> None:
        generator = random.Random(f"{seed} {server}")
        while (number := dispatcher.take(server)) is not None:
            chance = generator.random()
            if chance < 0.2:
                dispatcher.give_back(number, server)
            elif chance < 0.4:
                dispatcher.failed(number, server)
            else:
                dispatcher.finish(number, _rollout(number))

    threads = [threading.Thread(target=work, args=(server,)) for server in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert dispatcher.wait(0.0)
    assert [rollout.index for rollout in dispatcher.results if rollout] == list(range(sum(groups)))
