"""vLLM in this process: samples that are put aside go on in another stream with the random numbers that come next."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from vllm_runs import make_vllm_engine

from masa.rollout import Rollout, RolloutRequest
from masa.rollout.vllm.continuing import skip_tokens

REQUESTS = [
    RolloutRequest(f"p{number}", "solution", (5, 6, 7 + number), (1 + 3 * number, 2 + 3 * number, 3 + 3 * number), 60)
    for number in range(3)
]
# A sample whose end says when the others are put aside.
CLOCK = RolloutRequest("clock", "meta", (9,), (77,), 7)


@pytest.fixture(scope="module")
def engine(make_policy: Callable[..., Any]) -> Iterator[Any]:
    made = make_vllm_engine(make_policy(seed=3), 1)
    yield made
    made.close()


def _put_aside(engine: Any, requests: list[RolloutRequest]) -> list[list[Rollout]]:
    with engine.stream() as stream:
        stream.submit([CLOCK, *requests])
        found = stream.take()
        while not any(one.number == 0 for one in found):
            found += stream.take()
        found += stream.cancel(range(1 + len(requests)))
        assert stream.take() == []
    assert not engine._engine.has_unfinished_requests()
    return [
        [one.rollout for one in sorted(found, key=lambda one: one.rollout.index) if one.number == number]
        for number in range(1, 1 + len(requests))
    ]


def _gone_on(request: RolloutRequest, group: list[Rollout]) -> RolloutRequest:
    seeds = tuple(request.seeds[one.index] for one in group)
    return replace(request, seeds=seeds, begun=tuple(group))


def test_tokens_do_not_depend_on_when_a_sample_was_put_aside_nor_how_often(engine: Any) -> None:
    whole = engine.generate(REQUESTS)
    version = engine.weight_version
    first = _put_aside(engine, REQUESTS)
    aside = [[one for one in group if not one.has_ended] for group in first]
    assert all(aside)
    assert {len(one.token_ids) for group in aside for one in group} <= set(range(5, 9))
    rests = [_gone_on(request, group) for request, group in zip(REQUESTS, aside, strict=True)]
    engine.weight_version = version + 1
    second = _put_aside(engine, rests)
    engine.weight_version = version + 2
    open_ones = [[one for one in group if not one.has_ended] for group in second]
    last = engine.generate([_gone_on(rest, group) for rest, group in zip(rests, open_ones, strict=True)])
    engine.weight_version = version
    for group, expected in zip(last, whole, strict=True):
        wanted = {one.token_ids[:5]: one for one in expected}
        for one in group:
            other = wanted[one.token_ids[:5]]
            assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
            torch.testing.assert_close(
                torch.tensor([*one.logprobs]), torch.tensor([*other.logprobs]), rtol=0, atol=1e-5
            )
            versions = [weights for weights, _ in one.pieces()]
            assert versions == [version, version + 1, version + 2]
            assert sum(count for _, count in one.pieces()) == len(one.token_ids)


def test_a_stream_that_was_cancelled_leaves_nothing_to_the_next(engine: Any) -> None:
    expected = engine.generate(REQUESTS)
    _put_aside(engine, REQUESTS)
    again = engine.generate(REQUESTS)
    assert [[one.token_ids for one in group] for group in again] == [
        [one.token_ids for one in group] for group in expected
    ]
    assert [[one.logprobs for one in group] for group in again] == [
        [one.logprobs for one in group] for group in expected
    ]


def test_one_request_is_cancelled_and_the_others_go_on(engine: Any) -> None:
    expected = engine.generate(REQUESTS)
    with engine.stream() as stream:
        stream.submit([CLOCK, *REQUESTS[:2]])
        stream.take()
        stream.submit(REQUESTS[2:])
        stream.cancel([1, 3])
        found = []
        while ended := stream.take():
            found += ended
    assert {one.number for one in found} <= {0, 2}
    got = sorted((one.rollout.index, one.rollout.token_ids) for one in found if one.number == 2)
    assert set(got) <= {(one.index, one.token_ids) for one in expected[1]}
    assert got


def test_an_engine_that_fails_after_a_cancel_gives_what_is_left(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine.generate(REQUESTS)
    runner = type(engine._engine.model_executor.driver_worker.worker.model_runner)
    execute, calls = runner.execute_model, iter(range(10_000))

    def fail_once(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 15:
            raise RuntimeError("injected")
        return execute(self, *arguments, **options)

    monkeypatch.setattr(runner, "execute_model", fail_once)
    with engine.stream() as stream:
        stream.submit([CLOCK, *REQUESTS])
        found = stream.take()
        assert [one.number for one in found] == [0]
        stream.cancel([1, 3])
        while ended := stream.take():
            found += ended
    assert next(calls) > 16
    assert {one.number for one in found} == {0, 2}
    got = sorted((one.rollout.index, one.rollout.token_ids) for one in found if one.number == 2)
    assert got == [(one.index, one.token_ids) for one in expected[1]]


def test_a_generator_is_put_behind_the_numbers_that_were_drawn_by_the_sampler(engine: Any) -> None:
    sampler = engine._engine.model_executor.driver_worker.worker.model_runner.sampler.topk_topp_sampler
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    for _ in range(3):
        sampler.forward(torch.randn(1, 203), {0: one}, None, None)
    assert not one.get_state().equal(other.get_state())
    skip_tokens(other, 3, sampler, 203)
    assert one.get_state().equal(other.get_state())


class _Counting:
    """A GPU's generator, which counts; `forward` of a sampler takes 12 numbers a token of it."""

    device = torch.device("meta")

    def __init__(self) -> None:
        self.offset = 100

    def get_offset(self) -> int:
        return self.offset

    def set_offset(self, offset: int) -> None:
        self.offset = offset

    def forward(self, logits: torch.Tensor, generators: Any, k: None, p: None) -> None:
        generators[0].offset += 12


def test_a_generator_that_counts_is_put_forward_at_once() -> None:
    counting: Any = _Counting()
    skip_tokens(counting, 1000, counting, 8)
    assert counting.offset == 100 + 12 * 1000
