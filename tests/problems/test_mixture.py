"""Several sources of training problems, mixed by weight."""

from collections import Counter

import pytest

from masa.config import ConfigError, load_config
from masa.config.load import config_from_mapping
from masa.problems import Problem, ProblemDataError
from masa.problems.mixture import MixedSampler
from masa.problems.sources import load_training_problems, make_sampler

MANY = [Problem(id=f"many/{n}", statement=f"many {n}", answer="0", source="many") for n in range(40)]
FEW = [Problem(id=f"few/{n}", statement=f"few {n}", answer="0", source="few") for n in range(5)]


def shares(sampler, batches):
    drawn = Counter(problem.source for _ in range(batches) for problem in sampler.next_batch())
    return {source: count / sum(drawn.values()) for source, count in drawn.items()}


def test_each_source_has_the_share_of_its_weight_whatever_its_size():
    sampler = MixedSampler([(MANY, 1.0), (FEW, 3.0)], batch_size=4, seed=0)

    assert shares(sampler, 25) == {"many": 0.25, "few": 0.75}


def test_a_share_below_one_problem_a_batch_is_carried_to_later_batches():
    sampler = MixedSampler([(MANY, 9.0), (FEW, 1.0)], batch_size=2, seed=0)

    assert shares(sampler, 50)["few"] == pytest.approx(0.1, abs=0.011)


def test_where_a_source_runs_out_within_a_batch_the_others_fill_it_with_different_problems():
    sampler = MixedSampler([(MANY, 1.0), (FEW, 9.0)], batch_size=10, seed=0)

    batch = sampler.next_batch()

    assert len({problem.id for problem in batch}) == 10
    assert Counter(problem.source for problem in batch) == {"few": 5, "many": 5}


def test_problems_beside_are_not_drawn():
    sampler = MixedSampler([(MANY, 1.0), (FEW, 1.0)], batch_size=4, seed=0)
    beside = {problem.id for problem in FEW[:4]}

    drawn = [problem.id for problem in sampler.next_batch(41, beside=beside)]

    assert len(set(drawn)) == 41
    assert not beside.intersection(drawn)
    with pytest.raises(ValueError, match="1 to 41 is possible"):
        sampler.next_batch(42, beside=beside)


def test_a_sampler_goes_on_exactly_where_its_state_was_taken():
    parts = [(MANY, 1.0), (FEW, 2.0)]
    whole, before = MixedSampler(parts, 3, seed=7), MixedSampler(parts, 3, seed=7)
    expected = [[one.id for one in whole.next_batch()] for _ in range(12)]
    for _ in range(5):
        before.next_batch()
    after = MixedSampler(parts, 3, seed=7)
    after.load_state_dict(before.state_dict())

    assert [[one.id for one in after.next_batch()] for _ in range(7)] == expected[5:]
    with pytest.raises(ValueError, match=r"drew from one source\(s\)"):
        after.load_state_dict(make_sampler(MANY, (), {}, 3, 7).state_dict())


def test_sources_of_a_configuration_are_loaded_each_with_its_limit(tmp_path):
    file = tmp_path / "more.jsonl"
    file.write_text("".join(f'{{"problem": "more {n}", "answer": "{n}"}}\n' for n in range(9)))
    train = [{"source": "embedded:train", "limit": 6, "weight": 2}, {"source": str(file), "weight": 0.5}]
    config = config_from_mapping({"problems": {"train": train, "limit": 8}})

    loaded = load_training_problems(config.problems)
    sampler = make_sampler(loaded.problems, loaded.weights, loaded.part_of, 5, 0)

    assert Counter(loaded.part_of.values()) == {0: 6, 1: 8}
    assert loaded.weights == (2.0, 0.5)
    assert Counter(loaded.part_of[one.id] for one in sampler.next_batch()) == {0: 4, 1: 1}


def test_a_data_set_that_is_named_twice_is_refused():
    config = load_config(None, ["problems.train=[{source: embedded:train}, {source: embedded:train}]"])

    with pytest.raises(ProblemDataError, match="both hold the problem"):
        load_training_problems(config.problems)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("[{source: gsm8k, weight: 0}]", ["problems.train.0.weight: found 0, allowed: more than 0"]),
        ("[{weight: 1}]", ["problems.train.0.source"]),
        ("[]", ["problems.train: found []"]),
        ("7", ["problems.train: found 7", "text"]),
    ],
)
def test_a_mistake_in_the_list_of_sources_is_told_once_with_its_place(value, parts):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"problems.train={value}"])

    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_what_is_put_back_is_drawn_next_and_leaves_the_shares_of_what_is_used():
    others = [Problem(id=f"other/{n}", statement=f"other {n}", answer="0", source="other") for n in range(30)]
    sampler = MixedSampler([(MANY, 3.0), (others, 1.0)], batch_size=4, seed=0)
    used = Counter()

    for step in range(100):
        batch = sampler.next_batch()
        beyond = sampler.next_batch(8, beside={problem.id for problem in batch})
        taken = [*batch, *beyond[: step % 5]]
        sampler.put_back(beyond[step % 5 :])
        used.update(problem.source for problem in taken)

    assert used["other"] / used.total() == pytest.approx(0.25, abs=0.02)
    assert sampler.epochs_seen == pytest.approx(used.total() / 70)
