"""`generate` as a call on a stream, and streams in rounds that processes take together."""

import threading
from collections.abc import Sequence
from typing import Any

from masa.rollout.engine import Finished, Rollout, RolloutRequest
from masa.rollout.stream import RoundStream, generate


def _request(name: str, samples: int = 2) -> RolloutRequest:
    return RolloutRequest(name, "solution", (5, 6), tuple(range(samples)), 8)


def _groups(requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
    return [
        [
            Rollout(one.problem_id, "solution", index, one.prompt_ids, (seed,), (-1.0,), "stop", 0, 0.0)
            for index, seed in enumerate(one.seeds)
        ]
        for one in requests
    ]


class Backwards(RoundStream):
    """Gives what has ended one by one, the last one first."""

    def __init__(self) -> None:
        super().__init__(_groups)
        self._left: list[Finished] = []

    def take(self) -> list[Finished]:
        self._left += super().take()
        return [self._left.pop()] if self._left else []


def test_generate_puts_rollouts_in_the_order_of_requests_and_seeds_whatever_ends_first() -> None:
    requests = [_request("a", 3), _request("b", 1), _request("a", 3)]
    told: list[tuple[str, int]] = []
    found = generate(Backwards(), requests, lambda request, one: told.append((request.problem_id, one.index)))
    assert found == _groups(requests)
    assert told == [("a", 2), ("a", 1), ("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 0)]


def test_what_is_submitted_in_a_later_round_has_its_own_numbers() -> None:
    stream = RoundStream(_groups)
    with stream:
        assert stream.submit([_request("a"), _request("b", 1)]) == range(2)
        assert [(one.number, one.request.problem_id) for one in stream.take()] == [(0, "a"), (0, "a"), (1, "b")]
        assert stream.submit([_request("c", 1)]) == range(2, 3)
        assert [(one.number, one.request.problem_id) for one in stream.take()] == [(2, "c")]
        assert stream.take() == []


class Together:
    """What processes that share an engine ask one another; here they are threads."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=10)
        self._said: list[Any] = [None] * count
        self.rounds = 0

    def gather(self, process: int, value: Any) -> list[Any]:
        self._said[process] = value
        self._barrier.wait()
        said = list(self._said)
        self._barrier.wait()
        return said

    def stream(self, process: int) -> RoundStream:
        def sample(requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
            shares = self.gather(process, list(requests))
            self.rounds += process == 0
            groups = _groups([one for share in shares for one in share])
            start = sum(len(share) for share in shares[:process])
            return groups[start : start + len(requests)]

        return RoundStream(sample, lambda waits: any(self.gather(process, waits)))


def test_processes_that_share_an_engine_take_until_none_of_them_has_anything_left() -> None:
    together = Together(3)
    found: dict[int, list[str]] = {0: [], 1: [], 2: []}

    def work(process: int, chain: int) -> None:
        """One request after the other, ``chain`` of them; another process has none at all."""
        with together.stream(process) as stream:
            stream.submit([_request(f"{process}/0", 1)] if chain else [])
            while ended := stream.take():
                found[process] += [one.request.problem_id for one in ended]
                if len(found[process]) < chain:
                    stream.submit([_request(f"{process}/{len(found[process])}", 1)])

    threads = [threading.Thread(target=work, args=(process, chain)) for process, chain in enumerate((1, 0, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {0: ["0/0"], 1: [], 2: ["2/0", "2/1", "2/2"]}
    assert together.rounds == 3
