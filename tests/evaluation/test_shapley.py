"""Shapley shares of R^2."""

import math

import numpy as np
import pytest

from masa.evaluation.measures.shapley import r_squared, shapley_r_squared, shares


def test_contributions_add_up_to_the_r_squared_of_the_full_model() -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=60) for name in ("notion", "difficulty", "length", "step")}
    target = 2 * features["notion"] - features["length"] + rng.normal(size=60)
    found = shapley_r_squared(features, target)
    assert sum(found.values()) == pytest.approx(r_squared(np.stack(list(features.values()), axis=1), target))
    assert sum(shares(found).values()) == pytest.approx(1)
    assert max(found, key=lambda name: found[name]) == "notion"


def test_orthogonal_features_contribute_their_own_r_squared() -> None:
    a = np.array([1, 1, -1, -1, 1, 1, -1, -1.0])
    b = np.array([1, -1, 1, -1, 1, -1, 1, -1.0])
    # Variances 9 and 1 of 10.
    assert shapley_r_squared({"a": a, "b": b}, 3 * a + b) == pytest.approx({"a": 0.9, "b": 0.1})


def test_two_copies_of_a_feature_share_its_contribution() -> None:
    x = np.arange(10.0)
    assert shapley_r_squared({"x": x, "copy": x}, 2 * x) == pytest.approx({"x": 0.5, "copy": 0.5})


def test_too_few_rows_or_a_constant_target_explain_nothing() -> None:
    x = np.arange(10.0)
    assert math.isnan(shapley_r_squared({"x": x[:2]}, x[:2])["x"])
    assert math.isnan(shapley_r_squared({"x": x}, np.full(10, 0.3))["x"])


def test_rows_with_gaps_are_left_out() -> None:
    x = np.array([0, 1, 2, 3, math.nan, 5.0])
    y = np.array([0, 2, 4, 6, 100, 10.0])
    assert shapley_r_squared({"x": x}, y) == pytest.approx({"x": 1.0})
