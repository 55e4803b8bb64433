"""What every rollout engine takes and gives: requests in, rollouts out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from masa.tokens.elsewhere import logprobs, token_ids

if TYPE_CHECKING:
    from masa.model.weights import Weights

RolloutPath = Literal["solution", "meta"]
FinishReason = Literal["stop", "length", "cutoff", "aside"]
"""``cutoff``: it reached a budget of its own below the response limit (docs/controls.md). Engines say ``length``.
``aside``: it has not ended; it was put aside, and another request may go on with it (`RolloutRequest.begun`)."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The defaults leave the policy's own distribution untouched."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


@dataclass(frozen=True)
class RolloutRequest:
    """One prompt and how often to continue it.

    ``seeds`` holds one seed per sample, so a sample's tokens depend on its own seed and never on its neighbours in
    the batch. ``max_new_tokens`` is this request's own limit, end-of-sequence token included. ``prompt_ids`` becomes a
    `masa.tokens.arrays.TokenIds`, one object for all samples.

    ``begun`` has, for each sample, what was drawn of it before it was put aside, or None; empty: all of them begin.
    Such a sample goes on behind its last token, with the random number that the next one would have had; its tokens so
    far count for ``max_new_tokens``, and its rollout holds them and those that follow.
    """

    problem_id: str
    path: RolloutPath
    prompt_ids: Sequence[int]
    seeds: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = Sampling()
    begun: tuple[Rollout | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", token_ids(self.prompt_ids))
        if not self.prompt_ids:
            raise ValueError(f"problem {self.problem_id!r}: the {self.path} prompt has no tokens")
        if not self.seeds:
            raise ValueError(f"problem {self.problem_id!r}: the {self.path} request asks for no samples")
        if self.max_new_tokens < 1:
            raise ValueError(f"problem {self.problem_id!r}: max_new_tokens is {self.max_new_tokens}, at least 1 needed")
        if self.begun and len(self.begun) != len(self.seeds):
            raise ValueError(
                f"problem {self.problem_id!r}: {len(self.begun)} samples have begun or not, "
                f"{len(self.seeds)} are asked for"
            )
        numbered = (one if one is None else replace(one, index=index) for index, one in enumerate(self.begun))
        object.__setattr__(self, "begun", tuple(numbered))
        for one in self.begun:
            if one is not None and len(one.token_ids) >= self.max_new_tokens:
                raise ValueError(
                    f"problem {self.problem_id!r}: a sample that has begun has {len(one.token_ids)} tokens, and "
                    f"max_new_tokens is {self.max_new_tokens}: it has nothing left to draw"
                )

    def begun_of(self, index: int) -> Rollout | None:
        """What was drawn of a sample before; None where it begins."""
        return self.begun[index] if self.begun else None

    def read_by(self, index: int) -> Sequence[int]:
        """What an engine reads before it draws the next token of a sample: the prompt, and the tokens so far."""
        begun = self.begun_of(index)
        return self.prompt_ids if begun is None else (*self.prompt_ids, *begun.token_ids)


@dataclass(frozen=True)
class Rollout:
    """One sampled continuation, exactly as the engine made it.

    ``token_ids`` are the ids that are trained on (the end-of-sequence token included when ``finish_reason`` is
    ``stop``); ``logprobs[t]`` is the engine's log-probability, in nats, of ``token_ids[t]`` under the distribution it
    was drawn from. ``weight_version`` counts the policy updates that the engine had received when it drew the first of
    them. ``went_on`` says where later weights went on: pairs of the place of a token, from 0, and the version of the
    weights that drew this one and those behind it, in their order (`rollout.partial`); mostly there are none.

    Whatever sequences are given, token ids become `masa.tokens.arrays.TokenIds` and log-probs `LogProbs`: arrays of 4
    bytes a number that compare as tuples do. In a rollout of another process both are `Elsewhere`, which has a length.
    """

    problem_id: str
    path: RolloutPath
    index: int
    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: FinishReason
    weight_version: int
    seconds: float
    hint: str | None = None
    """The hint in its solution prompt; engines know nothing of it."""
    went_on: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", token_ids(self.prompt_ids))
        object.__setattr__(self, "token_ids", token_ids(self.token_ids))
        object.__setattr__(self, "logprobs", logprobs(self.logprobs))
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(
                f"rollout {self.problem_id!r}/{self.path}/{self.index}: {len(self.token_ids)} tokens "
                f"but {len(self.logprobs)} log-probs"
            )
        if not self.token_ids:
            raise ValueError(f"rollout {self.problem_id!r}/{self.path}/{self.index} has no tokens")

    @property
    def truncated(self) -> bool:
        """Whether it reached the response limit."""
        return self.finish_reason == "length"

    @property
    def cut(self) -> bool:
        """Whether an early cutoff ended it before the response limit."""
        return self.finish_reason == "cutoff"

    @property
    def has_ended(self) -> bool:
        """Whether it is whole; else it was put aside."""
        return self.finish_reason != "aside"

    def pieces(self) -> list[tuple[int, int]]:
        """(weight version, tokens that these weights drew), the first ones first."""
        starts = [(0, self.weight_version), *self.went_on]
        ends = [*(place for place, _ in self.went_on), len(self.token_ids)]
        return [(version, end - start) for (start, version), end in zip(starts, ends, strict=True)]

    def gone_on(self, token_ids: Sequence[int], logprobs: Sequence[float], version: int, **changes: Any) -> Rollout:
        """This rollout with all of its tokens, of which the weights ``version`` drew those behind its own."""
        newest = self.went_on[-1][1] if self.went_on else self.weight_version
        went_on = self.went_on if version == newest else (*self.went_on, (len(self.token_ids), version))
        return replace(self, token_ids=token_ids, logprobs=logprobs, went_on=went_on, **changes)


Ended = Callable[[RolloutRequest, Rollout], None]
"""What is called with each rollout when it has ended; sampling in this process waits for it."""


@dataclass(frozen=True)
class Finished:
    """One rollout that has ended, and the request it belongs to: the ``number``-th that was submitted, from 0."""

    number: int
    request: RolloutRequest
    rollout: Rollout


class RolloutStream(Protocol):
    """What `RolloutEngine.stream` gives, a context manager. An engine has one stream at a time.

    All processes that share an engine open, take and close together: each goes on taking until it is given nothing.
    """

    def submit(self, requests: Sequence[RolloutRequest]) -> range:
        """Have ``requests`` sampled; their numbers. Rows are given out in the order of submission.

        Raises:
            RolloutError: a request cannot be sampled.
        """
        ...

    def take(self) -> list[Finished]:
        """What has ended since the last call, at least one rollout; nothing where nothing is left to sample.

        Raises:
            RolloutError: rollouts could not be made.
        """
        ...

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        """Sample the requests of these numbers no further: `take` gives nothing more of them, and their rows are free.

        Returns:
            what has been drawn of those of their samples that have not ended, as far as the engine has it: rollouts
            with the reason ``aside``. A sample that has no token yet is not among them.
        """
        ...

    def __enter__(self) -> RolloutStream: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what has not ended."""
        ...


class RolloutEngine(Protocol):
    """The interface shared by all engines."""

    def generate(self, requests: Sequence[RolloutRequest], ended: Ended | None = None) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``.

        ``ended`` is told of each of them while others are still being sampled; of a tensor-parallel engine's, after.

        All processes of a run call it equally often, with no requests where they have none: some share an engine.
        """
        ...

    def stream(self) -> RolloutStream:
        """Takes requests at any time, and gives each rollout when it has ended.

        All processes of a run open it equally often, and take until they are given nothing: some share an engine.
        """
        ...

    def update_weights(self, weights: Weights, version: int) -> None:
        """Take the policy's parameters: the policy itself, whatever wraps or shards it, or named tensors as they come.

        Rollouts made from now on carry ``version``.
        """
        ...

    def sleep(self) -> None:
        """Give the accelerator's memory back for the policy update, as far as the engine is set up to."""
        ...

    def wake(self) -> None:
        """Undo `sleep`; an engine that is awake stays as it is."""
        ...

    def statistics(self) -> dict[str, float]:
        """Metrics of what was sampled since the last call, by full name (``rollout/...``, ``time/...``)."""
        ...

    def checksums(self) -> list[int]:
        """`masa.rollout.weights.agreement.weight_checksum` of the weights of each copy that the engine samples from.

        Empty where no copy exists, none is whole (tensor parallelism), or weights are kept in another order.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; safe to call twice."""
        ...


class RolloutError(RuntimeError):
    """Rollouts could not be made; the message says why, and what was tried. The last checkpoint is untouched."""
