"""pass@k and majority vote, against enumeration and by hand."""

from itertools import combinations

import numpy as np
import pytest

from masa.evaluation.measures.pass_at_k import majority_vote, pass_at_k, powers_of_two


def test_pass_at_k_agrees_with_exhaustive_enumeration_up_to_twelve_samples() -> None:
    for n in range(1, 13):
        for correct in range(n + 1):
            samples = [True] * correct + [False] * (n - correct)
            for k in range(1, n + 1):
                draws = [any(draw) for draw in combinations(samples, k)]
                assert pass_at_k(n, correct, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


def test_pass_at_1_is_the_mean_over_samples() -> None:
    assert pass_at_k(32, [0, 8, 32], 1).tolist() == pytest.approx([0, 0.25, 1])


def test_pass_at_k_stays_exact_for_many_samples() -> None:
    # 1 - C(9999, 5000) / C(10000, 5000) = 1 - 5000/10000
    assert pass_at_k(10_000, 1, 5000) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_of_the_samples_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} of 4 samples"):
        pass_at_k(4, 2, k)


def test_more_correct_than_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="5 correct samples of 4"):
        pass_at_k(4, [5], 1)


def test_reported_k_are_powers_of_two_and_the_number_of_samples() -> None:
    assert powers_of_two(1) == [1]
    assert powers_of_two(8) == [1, 2, 4, 8]
    assert powers_of_two(12) == [1, 2, 4, 8, 12]


def test_majority_vote_takes_the_most_frequent_answer() -> None:
    assert majority_vote(["7", "7", "8"], [True, True, False]) == 1.0
    assert majority_vote(["7", "8", "8"], [True, False, False]) == 0.0


def test_correct_answers_count_together_however_they_are_written() -> None:
    assert majority_vote(["1/2", "0.5", "3", "3"], [True, True, False, False]) == 0.5
    assert majority_vote(["1/2", "0.5", "\\frac12", "3", "3"], [True, True, True, False, False]) == 1.0


def test_samples_without_an_answer_do_not_vote() -> None:
    assert majority_vote([None, None, "7"], [False, False, True]) == 1.0
    assert majority_vote([None, None], [False, False]) == 0.0


def test_a_tie_counts_with_the_share_of_the_correct_answer() -> None:
    assert majority_vote(["1", "2", "3"], [True, False, False]) == pytest.approx(1 / 3)


def test_pass_at_k_never_falls_with_k() -> None:
    values = np.array([pass_at_k(16, np.arange(17), k) for k in range(1, 17)])
    assert (np.diff(values, axis=0) >= -1e-12).all()
