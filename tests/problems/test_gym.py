"""Procedural problems of reasoning-gym, and their own scorers in the pool of isolated workers."""

from importlib.util import find_spec

import pytest

from masa.problems import ProblemDataError, load_problems
from masa.problems import gym as gym_rules
from masa.problems.gym import GymSource, parse_gym_source
from masa.problems.sources import without_held_out
from masa.rewards import VerifierPool
from masa.rewards.grading import verifier_item

needs_gym = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="the package reasoning-gym is not installed (extra gym)"
)
SMALL = "reasoning_gym:chain_sum?size=12&seed={seed}&min_terms=2&max_terms=2&max_digits=2&min_digits=2"


def test_a_source_holds_task_size_seed_and_the_tasks_own_options():
    source = parse_gym_source("reasoning_gym:chain_sum?size=20&seed=3&max_digits=2&allow_negation=true")

    assert source == GymSource("chain_sum", 20, 3, {"max_digits": 2, "allow_negation": True})
    assert source.name == "chain_sum(allow_negation=True,max_digits=2)"
    assert parse_gym_source("reasoning_gym:maze") == GymSource("maze", 1000, 0, {})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("reasoning_gym:", ["allowed: reasoning_gym:NAME"]),
        ("reasoning_gym:chain_sum?size=0", ["size is 0", "from 1 on"]),
        ("reasoning_gym:chain_sum?seed=x", ["seed is 'x'"]),
        ("reasoning_gym:chain_sum?size=1&size=2", ["'size' occurs twice"]),
        ("reasoning_gym:chain_sum?size=", ["'size' has no value"]),
        ("reasoning_gym:chain_sum?size", ["allowed: option=value"]),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(source, words):
    with pytest.raises(ProblemDataError) as caught:
        parse_gym_source(source)

    assert all(word in str(caught.value) for word in words)


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(gym_rules, "find_spec", lambda name: None)

    with pytest.raises(ProblemDataError, match=r"pip install masa-rl\[gym\]"):
        load_problems("reasoning_gym:chain_sum")


@needs_gym
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("reasoning_gym:chain_sums", ["nearest: 'chain_sum'"]),
        ("reasoning_gym:chain_sum?max_digit=2", ["unknown option 'max_digit'", "nearest: 'max_digits'", "size, seed"]),
        ("reasoning_gym:chain_sum?min_digits=5&max_digits=2", ["chain_sum refuses these options"]),
    ],
)
def test_what_the_package_does_not_know_is_refused(source, words):
    with pytest.raises(ProblemDataError) as caught:
        load_problems(source)

    assert all(word in str(caught.value) for word in words)


@needs_gym
def test_problems_follow_from_the_seed_and_are_scored_by_their_task_in_isolated_workers():
    first, again, other = (load_problems(SMALL.format(seed=seed)).problems for seed in (1, 1, 2))

    assert first == again
    assert {one.statement for one in first} != {one.statement for one in other}
    assert {one.source for one in first} == {"chain_sum(max_digits=2,max_terms=2,min_digits=2,min_terms=2)"}
    right = first[0].answer["entry"]["answer"]
    responses = [rf"So \boxed{{{right}}}", f"<answer>{right}</answer>", f"It is {right} of course", "no idea"]
    with VerifierPool(workers=1, time_limit=60.0) as pool:
        verdicts = pool.verify([verifier_item(first[0], response) for response in responses])

    assert [verdict.correct for verdict in verdicts] == [True, True, False, False]
    assert 0 < verdicts[2].reward < 1
    assert verdicts[3].reward == 0


@needs_gym
def test_generated_problems_that_are_held_out_are_no_training_problems():
    train = load_problems("reasoning_gym:chain_sum?size=60&seed=1&max_terms=2&max_digits=1&min_digits=1").problems
    held_out = load_problems("reasoning_gym:chain_sum?size=20&seed=2&max_terms=2&max_digits=1&min_digits=1").problems
    kept = without_held_out(train, held_out)

    held = {problem.statement for problem in held_out}
    assert 0 < len(kept) < len(train)
    assert not held.intersection(problem.statement for problem in kept)


@needs_gym
def test_problems_that_a_task_generates_twice_have_one_answer_and_are_no_conflict():
    loaded = load_problems("reasoning_gym:chain_sum?size=80&seed=1&min_terms=2&max_terms=2&max_digits=1&min_digits=1")
    assert loaded.report.duplicates > 5
    # Their entries differ, in their places among the generated ones.
    assert loaded.report.conflicting_duplicates == ()
