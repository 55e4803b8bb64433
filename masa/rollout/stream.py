"""`RolloutEngine.generate` as a call on the engine's stream, and the stream of an engine that has rounds only.

    with engine.stream() as stream:
        stream.submit(requests)
        while ended := stream.take():
            ...                        # look at what has ended, and perhaps submit more

An engine in this process samples inside of `take` and rests between two calls. What it takes into its batch depends on
what was submitted after which of its own outputs, and on nothing else: the same requests give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType

from masa.rollout.engine import Ended, Finished, Rollout, RolloutRequest, RolloutStream


def generate(
    stream: RolloutStream, requests: Sequence[RolloutRequest], ended: Ended | None = None
) -> list[list[Rollout]]:
    """Samples of each request, in the order of ``requests`` and of each request's ``seeds``; as `RolloutEngine`."""
    collected = Collected(requests)
    with stream as opened:
        first = opened.submit(requests).start
        while finished := opened.take():
            for one in finished:
                collected.add(one.number - first, one.rollout)
                if ended is not None:
                    ended(one.request, one.rollout)
    return collected.whole()


class Collected:
    """The samples of some requests, in the order of requests and seeds whatever comes first; None: not there yet."""

    def __init__(self, requests: Sequence[RolloutRequest]) -> None:
        self.requests = requests
        self.samples: list[list[Rollout | None]] = [[None] * len(request.seeds) for request in requests]
        self.missing = sum(len(request.seeds) for request in requests)

    def add(self, place: int, rollout: Rollout) -> bool:
        """Note a sample of the request at ``place``; whether that request has all of them now."""
        self.samples[place][rollout.index] = rollout
        self.missing -= 1
        return None not in self.samples[place]

    def note(self, place: int, rollout: Rollout) -> None:
        """What there is of a sample that has not ended, and is missing still."""
        self.samples[place][rollout.index] = rollout

    def whole(self) -> list[list[Rollout]]:
        """The samples, none of which may be missing."""
        assert not self.missing
        return [[one for one in group if one is not None] for group in self.samples]


class RoundStream:
    """A stream in rounds: what has been submitted is sampled to its end before anything else.

    For engines that several processes share: rounds are sampled by all of them together.

    Args:
        sample: samples of each request, as `RolloutEngine.generate`.
        is_left: whether any process has something to sample, given whether this one has.
    """

    def __init__(
        self,
        sample: Callable[[Sequence[RolloutRequest]], list[list[Rollout]]],
        is_left: Callable[[bool], bool] = bool,
    ) -> None:
        self._sample = sample
        self._is_left = is_left
        self._waiting: dict[int, RolloutRequest] = {}
        self._submitted = 0

    def submit(self, requests: Sequence[RolloutRequest]) -> range:
        first = self._submitted
        self._submitted += len(requests)
        self._waiting |= dict(enumerate(requests, first))
        return range(first, self._submitted)

    def take(self) -> list[Finished]:
        while self._is_left(bool(self._waiting)):
            waiting, self._waiting = self._waiting, {}
            groups = self._sample(list(waiting.values()))
            if found := list(_numbered(waiting, groups)):
                return found
        return []

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        """Nothing is under way between two rounds; what was drawn in earlier streams is still all that there is."""
        dropped = {number: self._waiting.pop(number) for number in sorted(numbers) if number in self._waiting}
        return [Finished(number, one, begun) for number, one in dropped.items() for begun in one.begun if begun]

    def __enter__(self) -> RoundStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting = {}


def _numbered(requests: Mapping[int, RolloutRequest], groups: Sequence[Sequence[Rollout]]) -> Iterator[Finished]:
    for (number, request), group in zip(requests.items(), groups, strict=True):
        for rollout in group:
            yield Finished(number, request, rollout)
