"""What every rollout engine takes and gives: requests in, rollouts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from masa.tokens.elsewhere import logprobs, token_ids

if TYPE_CHECKING:
    from masa.model.weights import Weights

RolloutPath = Literal["solution", "meta"]
FinishReason = Literal["stop", "length", "cutoff"]
"""``cutoff``: it reached a budget of its own below the response limit (docs/controls.md). Engines say ``length``."""


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
    """

    problem_id: str
    path: RolloutPath
    prompt_ids: Sequence[int]
    seeds: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", token_ids(self.prompt_ids))
        if not self.prompt_ids:
            raise ValueError(f"problem {self.problem_id!r}: the {self.path} prompt has no tokens")
        if not self.seeds:
            raise ValueError(f"problem {self.problem_id!r}: the {self.path} request asks for no samples")
        if self.max_new_tokens < 1:
            raise ValueError(f"problem {self.problem_id!r}: max_new_tokens is {self.max_new_tokens}, at least 1 needed")


@dataclass(frozen=True)
class Rollout:
    """One sampled continuation, exactly as the engine made it.

    ``token_ids`` are the ids that are trained on (the end-of-sequence token included when ``finish_reason`` is
    ``stop``); ``logprobs[t]`` is the engine's log-probability, in nats, of ``token_ids[t]`` under the distribution it
    was drawn from. ``weight_version`` counts the policy updates the engine had received.

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
