"""Every epoch shows each problem once, no batch holds one twice, and a resumed sampler goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.problems import Problem, ProblemSampler


def make_problems(count: int) -> list[Problem]:
    return [
        Problem(id=f"p{number}", statement=f"What is {number} + 1?", answer=str(number + 1)) for number in range(count)
    ]


def ids(batch: list[Problem]) -> list[str]:
    return [problem.id for problem in batch]


@given(count=st.integers(1, 12), data=st.data(), seed=st.integers(0, 5))
def test_no_batch_repeats_a_problem_and_counts_never_differ_by_more_than_one_after_whole_epochs(
    count: int, data: st.DataObject, seed: int
) -> None:
    batch_size = data.draw(st.integers(1, count))
    sampler = ProblemSampler(make_problems(count), batch_size, seed)
    seen: Counter[str] = Counter()
    # `count` batches of `batch_size` are exactly `batch_size` epochs.
    for _ in range(count):
        batch = ids(sampler.next_batch())
        assert len(set(batch)) == batch_size
        seen.update(batch)
    assert set(seen.values()) == {batch_size}
    assert sampler.epochs_seen == batch_size


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=20), stop=st.integers(0, 19))
def test_a_sampler_resumed_at_any_batch_gives_the_same_batches(sizes: list[int], stop: int) -> None:
    problems = make_problems(7)
    whole = ProblemSampler(problems, 3, seed=1)
    expected = [ids(whole.next_batch(size)) for size in sizes]

    first = ProblemSampler(problems, 3, seed=1)
    got = [ids(first.next_batch(size)) for size in sizes[:stop]]
    second = ProblemSampler(problems, 3, seed=1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += [ids(second.next_batch(size)) for size in sizes[stop:]]
    assert got == expected


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    problems = make_problems(50)

    def epochs(seed: int) -> list[list[str]]:
        sampler = ProblemSampler(problems, 50, seed)
        return [ids(sampler.next_batch()) for _ in range(2)]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0)[0] != epochs(1)[0]
    assert epochs(0)[0] != ids(problems)


def test_the_order_does_not_depend_on_how_the_problems_are_listed() -> None:
    problems = make_problems(20)
    forward, backward = ProblemSampler(problems, 5, 0), ProblemSampler(problems[::-1], 5, 0)
    assert [ids(forward.next_batch()) for _ in range(6)] == [ids(backward.next_batch()) for _ in range(6)]


def test_a_problem_already_in_the_batch_comes_first_in_the_batch_after() -> None:
    # With 2 problems and batches of 1, 2: the second batch takes what is left of epoch 0 and the other one of epoch 1.
    for seed in range(8):
        sampler = ProblemSampler(make_problems(2), 1, seed)
        first, second, third = sampler.next_batch(1), sampler.next_batch(2), sampler.next_batch(1)
        assert len(set(ids(second))) == 2
        assert ids(first) == ids(second)[1:]
        assert ids(third) == ids(second)[:1]


def test_fewer_problems_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 problems cannot fill a batch of 4"):
        ProblemSampler(make_problems(3), 4, 0)
    with pytest.raises(ValueError, match="0 problems"):
        ProblemSampler([], 1, 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        ProblemSampler(make_problems(3), 0, 0)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_a_batch_size_that_cannot_be_had_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 3 is possible"):
        ProblemSampler(make_problems(3), 2, 0).next_batch(n)


def test_two_problems_with_one_id_are_refused() -> None:
    problems = [*make_problems(2), Problem(id="p1", statement="Another.", answer="0")]
    with pytest.raises(ValueError, match="share the id 'p1'"):
        ProblemSampler(problems, 1, 0)


def test_a_state_of_other_problems_or_another_seed_is_refused() -> None:
    state = ProblemSampler(make_problems(4), 2, 0).state_dict()
    with pytest.raises(ValueError, match="4 problems, this one from 5"):
        ProblemSampler(make_problems(5), 2, 0).load_state_dict(state)
    renamed = [Problem(id=f"q{n}", statement=f"{n}?", answer="0") for n in range(4)]
    with pytest.raises(ValueError, match="other ids"):
        ProblemSampler(renamed, 2, 0).load_state_dict(state)
    with pytest.raises(ValueError, match="seed is 0, this one's 1"):
        ProblemSampler(make_problems(4), 2, 1).load_state_dict(state)


def test_problems_that_are_put_back_come_next_in_their_order() -> None:
    plain, other = (ProblemSampler(make_problems(12), 3, 0) for _ in range(2))
    for _ in range(3):
        batch = other.next_batch()
        assert ids(batch) == ids(plain.next_batch())
        other.put_back(other.next_batch(2, beside=set(ids(batch))))
        assert other.epochs_seen == plain.epochs_seen


@given(count=st.integers(2, 12), data=st.data(), seed=st.integers(0, 5))
def test_no_epoch_loses_a_problem_that_was_put_back(count: int, data: st.DataObject, seed: int) -> None:
    size = data.draw(st.integers(1, count))
    sampler = ProblemSampler(make_problems(count), size, seed)
    seen: Counter[str] = Counter({problem.id: 0 for problem in make_problems(count)})
    for number in range(1, 9):
        batch = sampler.next_batch()
        more = data.draw(st.integers(0, count - size))
        sampler.put_back(sampler.next_batch(more, beside=set(ids(batch))) if more else [])
        seen.update(ids(batch))
        assert max(seen.values()) - min(seen.values()) <= 1
        assert sampler.epochs_seen == pytest.approx(number * size / count)
        restored = ProblemSampler(make_problems(count), size, seed)
        restored.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
        sampler = restored
