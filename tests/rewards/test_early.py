"""Solutions that end are verified while others are still being sampled, and rewards are what they are without that."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from test_grading import PROBLEM, SOLUTIONS, Characters, ReadsTheLastWord, _rollouts

from masa.config import load_config
from masa.rewards import Verdict
from masa.rewards.early import EarlyVerdicts
from masa.rewards.grading import Grader
from masa.rollout import Rollout, RolloutRequest

REQUESTS = [
    RolloutRequest("p", "solution", (5,), (0, 1, 2, 3), 100),
    RolloutRequest("p", "meta", (6,), (0,), 100),
]
METAS = ['{"notions": ["square"], "pass_rate": "6/8", "solution_length": 20}']


class Samples:
    """An engine whose rollouts end one after the other; ``between`` is called before the last of them ends."""

    def __init__(self, between: Callable[[], object] = lambda: None, texts: Sequence[str] = SOLUTIONS) -> None:
        self.groups = [_rollouts("solution", texts), _rollouts("meta", METAS)]
        self._between = between

    def generate(
        self, requests: Sequence[RolloutRequest], ended: Callable[[RolloutRequest, Rollout], None] | None = None
    ) -> list[list[Rollout]]:
        for request, group in zip(requests, self.groups, strict=True):
            for rollout in group:
                if rollout is self.groups[0][-1]:
                    self._between()
                if ended is not None:
                    ended(request, rollout)
        return self.groups


class Notes(ReadsTheLastWord):
    """Notes what it is asked, and says when it has answered for the first time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered = threading.Event()

    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        self.asked += [item["response"] for item in items]
        verdicts = super().verify(items)
        self.answered.set()
        return verdicts


def _grader(verifier: Any, *, early: bool) -> Grader:
    tokenizer: Any = Characters()
    return Grader(load_config(None), tokenizer, verifier, early=early)


def test_a_verdict_is_there_before_the_last_solution_ends() -> None:
    verifier = Notes()
    answered: list[bool] = []
    engine: Any = Samples(between=lambda: answered.append(verifier.answered.wait(10)))
    grader = _grader(verifier, early=True)
    groups = grader.grade([PROBLEM], grader.sampled(engine, [PROBLEM], REQUESTS))
    assert answered == [True]
    assert sorted(verifier.asked) == sorted(SOLUTIONS)
    assert [one.correct for one in groups[0].verdicts] == [True, True, True, False]


def test_graded_groups_are_those_of_a_verifier_that_is_asked_at_the_end() -> None:
    engine: Any = Samples()
    found = []
    for early in (False, True):
        grader = _grader(Notes(), early=early)
        found.append(grader.grade([PROBLEM], grader.sampled(engine, [PROBLEM], REQUESTS)))
    assert found[0] == found[1]


def test_what_a_cutoff_ended_is_never_asked_about() -> None:
    engine: Any = Samples()
    engine.groups[0][1] = replace(engine.groups[0][1], finish_reason="length")
    verifier = Notes()
    grader = _grader(verifier, early=True)
    solutions, metas = grader.sampled(engine, [PROBLEM], REQUESTS)
    solutions[1] = replace(solutions[1], finish_reason="cutoff")
    (group,) = grader.grade([PROBLEM], [solutions, metas])
    assert len(verifier.asked) == 3
    assert [one.correct for one in group.verdicts] == [True, False, True, False]


def test_a_rollout_that_comes_again_after_a_failure_is_graded_once() -> None:
    engine: Any = Samples()
    sample = engine.generate

    def twice(requests: Any, ended: Any) -> Any:
        sample(requests, ended)
        return sample(requests, ended)

    engine.generate = twice
    grader = _grader(Notes(), early=True)
    (group,) = grader.grade([PROBLEM], grader.sampled(engine, [PROBLEM], REQUESTS))
    assert [one.correct for one in group.verdicts] == [True, True, True, False]


def test_an_error_of_the_verifier_is_raised_when_solutions_are_graded() -> None:
    class Fails:
        def verify(self, items: object) -> list[Verdict]:
            raise RuntimeError("no workers")

    engine: Any = Samples()
    grader = _grader(Fails(), early=True)
    rollouts = grader.sampled(engine, [PROBLEM], REQUESTS)
    with pytest.raises(RuntimeError, match="no workers"):
        grader.grade([PROBLEM], rollouts)


def test_hidden_seconds_are_those_since_the_last_call_and_none_where_nothing_is_hidden() -> None:
    verifier = Notes()
    engine: Any = Samples(between=lambda: verifier.answered.wait(10))
    grader = _grader(verifier, early=True)
    grader.grade([PROBLEM], grader.sampled(engine, [PROBLEM], REQUESTS))
    first = grader.hidden_seconds()
    assert first is not None
    assert first >= 0
    assert grader.hidden_seconds() == 0
    assert _grader(verifier, early=False).hidden_seconds() is None


def test_an_answer_that_takes_long_keeps_no_other_waiting_while_there_is_a_thread_left() -> None:
    begun, others = threading.Event(), threading.Event()

    def verify(items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        if items[0]["response"] == "long":
            begun.set()
            assert others.wait(10), "the others wait for the one that takes long"
        return [Verdict(correct=True, status="correct") for _ in items]

    early = EarlyVerdicts(verify, threads=2)
    rollouts = {text: _rollouts("solution", [text])[0] for text in ("long", "a", "b")}
    for text, rollout in rollouts.items():
        early.begin(rollout, text, {"response": text})
        assert begun.wait(10)
    found = {text: early.take(rollout) for text, rollout in rollouts.items()}
    for text in ("a", "b"):
        one = found[text]
        assert one is not None
        assert one.verdict.result(10).correct
    others.set()
    assert found["long"] is not None
    assert found["long"].verdict.result(10).correct
    early.close()
    for thread in early._threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in early._threads)


def test_seconds_in_which_several_threads_work_count_once() -> None:
    both = threading.Barrier(2, timeout=10)

    def verify(items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        both.wait()
        time.sleep(0.2)
        both.wait()
        return [Verdict(correct=True, status="correct") for _ in items]

    early = EarlyVerdicts(verify, threads=2)
    started = time.perf_counter()
    waiting = []
    for text in ("a", "b"):
        rollout = _rollouts("solution", [text])[0]
        early.begin(rollout, text, {"response": text})
        taken = early.take(rollout)
        assert taken is not None
        waiting.append(taken.verdict)
        time.sleep(0.05)
    for one in waiting:
        one.result(10)
    early.close()
    for thread in early._threads:
        thread.join(10)
    assert 0.2 <= early.seconds <= time.perf_counter() - started
