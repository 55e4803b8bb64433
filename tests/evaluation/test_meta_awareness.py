"""Meta-awareness metrics on outcomes whose numbers are known."""

import math

import numpy as np
import pytest
from scipy import stats

from masa.config.controls import ControlsSection
from masa.controls.cutoff import token_budget
from masa.controls.gating import judge
from masa.evaluation.measures.meta_awareness import (
    ControlThresholds,
    calibration_curve,
    calibration_error,
    cutoff_detection,
    detection,
    gate_detection,
    meta_statistics,
)
from masa.evaluation.measures.metrics import values
from masa.evaluation.measures.outcomes import MetaOutcome, Outcome


def meta(pass_rate: float | None, length: int | None = 50, kept: int = 2, right: int = 1) -> MetaOutcome:
    complete = pass_rate is not None and length is not None
    return MetaOutcome(pass_rate, length, complete, kept, right, 1.0, 0.5, right / kept if kept else 0.0, 0.6)


def outcome(name: str, correct: list[bool], lengths: list[int], metas: list[MetaOutcome]) -> Outcome:
    return Outcome(
        name, "test", tuple(correct), ("7",) * len(correct), tuple(lengths), (False,) * len(correct), tuple(metas)
    )


EASY = outcome("easy", [True] * 4, [40, 40, 60, 60], [meta(1.0), meta(1.0)])
HALF = outcome("half", [True, True, False, False], [60, 100, 90, 200], [meta(0.5, 80), meta(0.25, 100)])
HARD = outcome("hard", [False] * 4, [300, 310, 90, 20], [meta(0.0, 100), meta(None, None, kept=0, right=0)])
ALL = [EASY, HALF, HARD]


def test_errors_and_rates_by_hand() -> None:
    found = values(meta_statistics(ALL), 3)
    assert found["parse_rate"] == pytest.approx(5 / 6)
    # |1-1|, |1-1|, |.5-.5|, |.25-.5|, |0-0|
    assert found["pass_rate_error"] == pytest.approx(0.25 / 5)
    # Actual lengths 50 and 80; the hard problem has none.
    assert found["length_error"] == pytest.approx((0 + 0 + 0 + 20) / 4)
    assert found["length_relative_error"] == pytest.approx((20 / 80) / 4)
    assert found["notion_precision"] == pytest.approx(5 / 10)
    assert found["r_difficulty"] == pytest.approx(0.5)


def test_correlations_are_those_of_mean_predictions_with_pass_rates() -> None:
    found = values(meta_statistics(ALL), 3)
    predicted, actual = [1.0, 0.375, 0.0], [1.0, 0.5, 0.0]
    assert found["pass_rate_pearson"] == pytest.approx(stats.pearsonr(predicted, actual).statistic)
    assert found["pass_rate_spearman"] == pytest.approx(1.0)


def test_spearman_agrees_with_scipy_where_values_are_tied() -> None:
    rng = np.random.default_rng(0)
    outcomes = [
        outcome(str(i), [bool(b) for b in rng.random(4) < 0.5], [50] * 4, [meta(int(rng.integers(0, 9)) / 8)])
        for i in range(30)
    ]
    expected = stats.spearmanr([o.metas[0].pass_rate for o in outcomes], [o.pass_rate for o in outcomes]).statistic
    assert values(meta_statistics(outcomes), 30)["pass_rate_spearman"] == pytest.approx(expected)


def test_a_correlation_without_variation_is_not_a_number() -> None:
    assert math.isnan(values(meta_statistics([EASY, EASY]), 2)["pass_rate_pearson"])


def test_the_calibration_curve_bins_predictions_and_weighs_its_error_by_count() -> None:
    curve = calibration_curve(ALL)
    assert [(cell["predicted"], cell["actual"], cell["count"]) for cell in curve] == [
        (0.0, 0.0, 1),
        (0.25, 0.5, 1),
        (0.5, 0.5, 1),
        (1.0, 1.0, 2),
    ]
    assert calibration_error(curve) == pytest.approx(0.25 / 5)
    assert math.isnan(calibration_error([]))


def test_precision_recall_and_f1_by_hand() -> None:
    found = detection([True, True, True, False, False], [True, True, False, True, False])
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found.flagged == pytest.approx(3 / 5)
    assert math.isnan(detection([False], [True]).precision)
    assert detection([False], [True]).recall == 0.0


def test_the_gate_flags_problems_whose_predictions_agree_at_either_end() -> None:
    found = gate_detection(ALL, ControlThresholds())
    # easy: agreed and trivial; hard: a single readable prediction, where the training's gate wants two; half: neither.
    assert (found.true_positives, found.false_positives, found.false_negatives, found.true_negatives) == (1, 0, 1, 1)


RATES = [1.0, 0.96, 0.94, 0.9, 0.875, 0.0, 0.04, 0.06, 0.5, None]
LENGTHS = [1, 90, 127, 128, 129, 250, 1000, None]


def test_gate_and_cutoff_decide_like_the_training_s_own() -> None:
    controls = ControlsSection(
        gating={"max_std": 0.05, "trivial": 0.9, "unsolvable": 0.1, "min_parsed": 0.7},
        cutoff={"factor": 1.5, "aggregate": "median", "floor": 192},
    )
    for section in (ControlsSection(), controls):
        thresholds = ControlThresholds.of(section)
        rng = np.random.default_rng(0)
        flags = cuts = 0
        for _ in range(300):
            rates = (
                [RATES[i] for i in rng.integers(0, len(RATES), 4)] if rng.random() < 0.5 else [rng.choice(RATES)] * 4
            )
            rates = [rate if rng.random() < 0.8 else None for rate in rates]
            lengths = [LENGTHS[i] for i in rng.integers(0, len(LENGTHS), 4)]
            metas = [meta(rate, length) for rate, length in zip(rates, lengths, strict=True)]
            solutions = [int(length) for length in rng.integers(1, 601, 4)]
            one = Outcome(
                "p", "s", (False,) * 4, ("",) * 4, tuple(solutions), tuple(length == 600 for length in solutions),
                tuple(metas),
            )  # fmt: skip
            flagged = judge(rates, section.gating).flagged
            assert gate_detection([one], thresholds).true_positives == flagged
            budget = token_budget(lengths, section.cutoff, limit=600)
            cut = sum(length > budget for length in solutions)
            assert cutoff_detection([one], thresholds).true_positives == cut
            flags, cuts = flags + flagged, cuts + cut
        assert 20 < flags < 280
        assert 20 < cuts < 1180


def test_disagreeing_predictions_are_not_gated() -> None:
    torn = outcome("torn", [True] * 4, [10] * 4, [meta(1.0), meta(0.75)])
    assert gate_detection([torn], ControlThresholds(trivial=0.8)).flagged == 0.0
    assert gate_detection([torn], ControlThresholds(trivial=0.8, agreement=0.2)).flagged == 1.0


def test_the_cutoff_flags_solutions_longer_than_twice_the_prediction() -> None:
    # half: budget 2 x 90 = 180 cuts 200 (wrong); hard: budget 200 cuts 300 and 310; easy: budget 100 cuts none.
    found = cutoff_detection(ALL, ControlThresholds(cutoff_floor=1))
    assert (found.true_positives, found.false_positives) == (3, 0)
    assert found.recall == pytest.approx(3 / 6)
    floored = cutoff_detection(ALL, ControlThresholds(cutoff_floor=250))
    assert floored.true_positives == 2


def test_the_cutoff_aggregate_is_chosen() -> None:
    wide = outcome("wide", [False], [150], [meta(0.5, 10), meta(0.5, 20), meta(0.5, 90)])
    assert cutoff_detection([wide], ControlThresholds(cutoff_aggregate="median", cutoff_floor=1)).flagged == 1.0
    assert cutoff_detection([wide], ControlThresholds(cutoff_aggregate="max", cutoff_floor=1)).flagged == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trivial": 0.01}, "unsolvable 0.05 and trivial 0.01"),
        ({"min_parsed": 1.5}, "min_parsed is 1.5"),
        ({"cutoff_factor": 0.0}, "cutoff_factor 0.0"),
        ({"cutoff_aggregate": "mode"}, "allowed: mean, median, max"),
    ],
)
def test_thresholds_out_of_range_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControlThresholds(**change)
