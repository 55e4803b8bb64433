"""The algorithm of a run: its preset, and what the configuration changes of it."""

from dataclasses import asdict
from typing import Any

import pytest

from masa.config import ConfigError
from masa.config.algorithm import AlgorithmSection
from masa.policy.algorithm import resolve_algorithm
from masa.policy.presets import PRESETS

# Of each option a value that no preset has.
CHANGES: dict[str, Any] = {
    "clip_low": 0.1,
    "clip_high": 0.5,
    "dual_clip": 3.0,
    "kl_coefficient": 0.25,
    "kl_estimator": "k1",
    "entropy_coefficient": 0.01,
    "tis_cap": 2.0,
    "aggregation": "constant",
    "advantage_scale": "batch",
}


def _parameters(**options: Any) -> dict[str, Any]:
    algorithm = resolve_algorithm(AlgorithmSection(**options))
    advantage = {f"advantage_{name}": value for name, value in asdict(algorithm.advantage).items()}
    return {**advantage, **asdict(algorithm.loss)}


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_its_own_parameter_and_no_other(option: str) -> None:
    before = _parameters(name="dapo")
    assert before[option] != CHANGES[option]
    assert _parameters(name="dapo", **{option: CHANGES[option]}) == {**before, option: CHANGES[option]}


def test_every_option_that_may_be_left_to_the_preset_has_such_a_parameter() -> None:
    assert {name for name, field in AlgorithmSection.model_fields.items() if field.default is None} == set(CHANGES)


@pytest.mark.parametrize("name", PRESETS)
def test_without_options_the_algorithm_is_its_preset(name: str) -> None:
    assert resolve_algorithm(AlgorithmSection.model_validate({"name": name})) == PRESETS[name]


def test_k1_is_refused_as_a_term_of_the_loss_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.kl_estimator: found 'k1', .*'k2', 'k3'; .*expectation is zero"):
        resolve_algorithm(AlgorithmSection(kl_coefficient=0.01, kl_estimator="k1"))
