"""vLLM in this process as a stream: requests join its batch, and what it does repeats to the last bit."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from vllm_runs import make_vllm_engine

from masa.rollout import Rollout, RolloutRequest

REQUESTS = [RolloutRequest(f"p{number}", "solution", (5, 6, 7 + number), (1, 2, 3), 20) for number in range(4)]
Chain = tuple[list[list[tuple[int, int]]], dict[tuple[int, int], Rollout]]


@pytest.fixture(scope="module")
def engine(make_policy: Callable[..., Any]) -> Iterator[Any]:
    made = make_vllm_engine(make_policy(seed=3), 1)
    yield made
    made.close()


def _chain(engine: Any) -> Chain:
    """Two requests, and the other two when the first samples have ended: what ended together, and the rollouts."""
    order: list[list[tuple[int, int]]] = []
    found: dict[tuple[int, int], Rollout] = {}
    with engine.stream() as stream:
        stream.submit(REQUESTS[:2])
        coming = REQUESTS[2:]
        while ended := stream.take():
            order.append([(one.number, one.rollout.index) for one in ended])
            found |= {(one.number, one.rollout.index): one.rollout for one in ended}
            if coming:
                stream.submit([coming.pop(0)])
    return order, found


def _values(chain: Chain) -> Any:
    order, found = chain
    return order, [(place, one.token_ids, one.logprobs) for place, one in sorted(found.items())]


def test_requests_that_join_have_the_tokens_they_have_in_one_call_and_a_stream_repeats_bit_for_bit(engine: Any) -> None:
    together = engine.generate(REQUESTS)
    first = _chain(engine)
    assert len(first[1]) == 12
    for (number, index), one in first[1].items():
        assert one.token_ids == together[number][index].token_ids
    assert _values(_chain(engine)) == _values(first)


def test_a_stream_that_is_left_leaves_nothing_to_the_next(engine: Any) -> None:
    expected = _values(_chain(engine))
    with engine.stream() as stream:
        stream.submit(REQUESTS)
        assert stream.take()
    assert not engine._engine.has_unfinished_requests()
    assert _values(_chain(engine)) == expected


def test_an_engine_that_fails_in_the_middle_of_a_stream_gives_what_it_would_have_given(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _values(_chain(engine))
    runner = type(engine._engine.model_executor.driver_worker.worker.model_runner)
    execute, calls = runner.execute_model, iter(range(10_000))

    def fail_once(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 12:
            raise RuntimeError("injected")
        return execute(self, *arguments, **options)

    before = torch.get_rng_state()
    monkeypatch.setattr(runner, "execute_model", fail_once)
    assert _values(_chain(engine)) == expected
    assert next(calls) > 13
    assert torch.equal(torch.get_rng_state(), before)
