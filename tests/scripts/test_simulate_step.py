"""The simulator of a step against sums that can be made by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from step_events import Clock, Engine, Machine, Verifier
from step_model import Flight, Job, Part, Plan, Sampled, draw, simulate, simulate_step
from step_padding import PaddedEngine

# One second a token, whatever else is sampled; two sequences at a time.
ONE = Machine(
    gpus=1,
    rows=2,
    token_seconds=1.0,
    row_seconds=0.0,
    cache_seconds=0.0,
    workers_per_gpu=1,
    read_seconds_per_token=0.0,
    update_seconds_per_token=0.0,
)
SMALL = Job(problems=12, solutions=4, metas=2, solution_tokens=300.0, meta_tokens=100.0, limit=900)
GPUS = Machine(gpus=4, rows=32, token_seconds=0.01, row_seconds=0.001, update_seconds_per_token=1e-4)


def _noting(clock: Clock, times: list[float]) -> Callable[[], None]:
    return lambda: times.append(clock.now)


def test_a_row_that_ends_is_given_to_the_next_sequence() -> None:
    clock, times = Clock(), list[float]()
    engine = Engine(clock, ONE)
    for tokens in (10.0, 4.0, 3.0, 5.0):
        engine.submit(tokens, _noting(clock, times))
    clock.run(lambda: False)
    assert times == pytest.approx([4, 7, 10, 12])
    assert engine.busy == pytest.approx(12)
    assert engine.sequence_seconds == pytest.approx(22)


def test_sequences_that_run_together_slow_each_other_down_until_one_ends() -> None:
    clock, times = Clock(), list[float]()
    engine = Engine(clock, replace(ONE, token_seconds=1.0, row_seconds=0.5))
    for tokens in (2.0, 4.0):
        engine.submit(tokens, _noting(clock, times))
    clock.run(lambda: False)
    # Two at two seconds a token, then two more tokens at one and a half.
    assert times == pytest.approx([4, 7])


def test_a_token_takes_longer_the_more_of_their_caches_the_sequences_read() -> None:
    clock, times = Clock(), list[float]()
    engine = Engine(clock, replace(ONE, token_seconds=0.0, cache_seconds=1.0))
    engine.submit(4.0, _noting(clock, times), prompt=3.0)
    engine.submit(2.0, _noting(clock, times), prompt=1.0, drawn=6.0)
    clock.at(5.0, lambda: None)
    clock.run(lambda: False)
    # Caches of 3 and 7 tokens grow by two each, in no steps: 10 a token and 14 at last. Then one of 5 grows to 7.
    assert times == pytest.approx([24, 24 + 12])


def test_what_is_stopped_on_its_way_has_drawn_as_much_as_its_time_was_worth() -> None:
    clock = Clock()
    engine = Engine(clock, replace(ONE, token_seconds=0.0, cache_seconds=1.0))
    engine.submit(4.0, lambda: None, prompt=3.0)
    clock.at(8.0, lambda: None)
    clock.run(lambda: clock.now >= 8)
    assert [tokens for tokens, _ in engine.stop()] == pytest.approx([2])


def test_padded_sequences_read_as_much_as_the_longest_of_them_has_and_prompts_are_read_as_long_as_the_longest() -> None:
    clock, times = Clock(), list[float]()
    machine = replace(ONE, token_seconds=0.0, cache_seconds=1.0, read_seconds_per_token=0.5, pads=True)
    engine = PaddedEngine(clock, machine)
    engine.submit(4.0, _noting(clock, times), prompt=3.0)
    engine.submit(2.0, _noting(clock, times), prompt=7.0)
    clock.run(lambda: False)
    # Two rows read 7 to 9 columns; the shorter one has all 9 of them also when it is alone.
    assert times == pytest.approx([2 * (14 + 18) / 2, 32 + 2 * (9 + 11) / 2])
    assert machine.read_seconds([3.0, 7.0, 2.0]) == 0.5 * 21
    assert replace(machine, pads=False).read_seconds([3.0, 7.0, 2.0]) == 0.5 * 12


def test_samples_that_go_on_stand_in_blocks_of_rows_of_like_lengths() -> None:
    clock = Clock()
    engine = PaddedEngine(clock, replace(ONE, rows=32, pads=True))
    for number in range(32):
        engine.submit(10.0, lambda: None, prompt=4.0, drawn=60.0 * (number % 2))
    assert engine.cache_read() == 16 * 64 + 16 * 4
    fresh = PaddedEngine(clock, replace(ONE, rows=32, pads=True))
    for number in range(32):
        fresh.submit(10.0, lambda: None, prompt=4.0 + 60.0 * (number % 2))
    assert fresh.cache_read() == 32 * 64


def test_what_is_put_aside_goes_on_where_it_was() -> None:
    clock = Clock()
    engine = Engine(clock, ONE)
    for tokens in (10.0, 4.0, 3.0):
        engine.submit(tokens, lambda: None)
    clock.at(5.0, lambda: None)
    clock.run(lambda: clock.now >= 5)
    assert [tokens for tokens, _ in engine.stop()] == pytest.approx([2, 5])


def test_answers_wait_for_a_free_verifier() -> None:
    clock, times = Clock(), list[float]()
    verifier = Verifier(clock, 2)
    for seconds in (3.0, 1.0, 1.0):
        verifier.submit(seconds, _noting(clock, times))
    clock.run(lambda: False)
    assert times == pytest.approx([1, 2, 3])


def test_lengths_have_the_mean_that_was_asked_for_and_a_tail() -> None:
    job = replace(SMALL, problems=2000)
    lengths = [one for problem in draw(job, False, 0) for one in problem.solutions]
    assert sum(lengths) / len(lengths) == pytest.approx(job.solution_tokens, rel=0.05)
    assert max(lengths) == job.limit


def test_controls_leave_problems_out_and_cut_solutions_of_the_same_lengths() -> None:
    job = replace(SMALL, problems=500, sample_spread=0.8)
    free, controlled = draw(job, False, 0), draw(job, True, 0)
    assert sum(not one.solutions for one in controlled) / 500 == pytest.approx(job.gated, abs=0.06)
    solved = [(one, other) for one, other in zip(free, controlled, strict=True) if other.solutions]
    pairs = [pair for one, other in solved for pair in zip(one.solutions, other.solutions, strict=True)]
    assert all(b <= a for a, b in pairs)
    assert any(b < a for a, b in pairs)


def test_a_step_without_a_wall_is_shorter_and_the_same_seed_gives_it_again() -> None:
    for controls in (False, True):
        walls = simulate(SMALL, GPUS, Plan(streams=False, controls=controls), steps=2, seed=0)
        streams = simulate(SMALL, GPUS, Plan(streams=True, controls=controls), steps=2, seed=0)
        assert streams.seconds < walls.seconds
        assert streams.idle < walls.idle
        assert streams.tokens == walls.tokens
        assert streams == simulate(SMALL, GPUS, Plan(streams=True, controls=controls), steps=2, seed=0)


def _flight(step: int, *solutions: float) -> Flight:
    return Flight.of(Sampled((), solutions, (0.0,) * len(solutions)), step)


def test_a_step_leaves_what_is_not_whole_with_the_tokens_that_are_left_and_trains_on_the_oldest() -> None:
    flights = [_flight(0, 5.0, 9.0), _flight(1, 2.0), _flight(1, 3.0), _flight(1, 8.0)]
    job, machine = replace(SMALL, problems=2), replace(ONE, rows=9)
    step, left = simulate_step(job, machine, Plan(streams=True, controls=False, partial=0.5), flights)
    assert (step.sampling, step.tokens) == (3, 5)
    assert [[part.tokens for part in one.solutions] for one in left] == [[2, 6], [5]]
    assert [one.to_read for one in left] == [[3, 3], [3]]
    # The three tokens a sequence that were drawn are read again, at half a second each.
    reading = replace(machine, read_seconds_per_token=0.5)
    after, left = simulate_step(job, reading, Plan(streams=True, controls=False, partial=0.5), left, left[:1])
    assert (after.sampling, after.tokens, left) == (4.5 + 6, 22, [])


def test_a_sample_that_goes_on_reads_its_prompt_and_its_tokens_and_others_share_their_prompt() -> None:
    flight = Flight.of(Sampled((5.0, 5.0), (9.0, 9.0), (0.0, 0.0), meta_prompt=30.0, solution_prompt=20.0), 0)
    assert sorted(flight.to_read) == [20, 30]
    flight.parts = [Part(2.0, drawn=3.0), Part(1.0, 0.0, drawn=8.0), Part(9.0, 0.0)]
    assert flight.to_read == [33, 28, 20]


def test_a_step_waits_for_what_is_overdue_and_leaves_what_is_whole_and_not_needed() -> None:
    flights = [_flight(0, 9.0), _flight(1, 1.0), _flight(1, 2.0)]
    job, machine = replace(SMALL, problems=2), replace(ONE, rows=9)
    plan = Plan(streams=True, controls=False, partial=0.5)
    step, (left,) = simulate_step(job, machine, plan, flights, flights[:1])
    assert (step.sampling, step.tokens) == (9, 10)
    assert (left, left.solutions) == (flights[2], [])


def test_stragglers_put_aside_shorten_sampling_and_are_finished_in_the_next_step() -> None:
    whole = simulate(SMALL, GPUS, Plan(streams=True, controls=False), steps=4, seed=0)
    part = simulate(SMALL, GPUS, Plan(streams=True, controls=False, partial=0.8), steps=4, seed=0)
    assert part.sampling < whole.sampling
    assert part.idle < whole.idle
    # As many problems are trained on, with whatever began them.
    assert part.tokens == pytest.approx(whole.tokens, rel=0.1)
