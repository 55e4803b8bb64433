"""The algorithm of a run: its preset, and what the configuration changes of it."""

from dataclasses import asdict
from typing import Any

import pytest

from masa.config import ConfigError, load_config
from masa.config.algorithm import AlgorithmSection
from masa.policy.objective.algorithm import resolve_algorithm
from masa.policy.objective.parameters import Correction
from masa.policy.objective.presets import PRESETS

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
    # How many metas there are is no part of the policy gradient: no preset says it.
    of_rollouts = {"num_metas_when_calibrated"}
    nullable = {name for name, field in AlgorithmSection.model_fields.items() if field.default is None}
    assert nullable - of_rollouts == set(CHANGES)


@pytest.mark.parametrize("name", PRESETS)
def test_without_options_the_algorithm_is_its_preset(name: str) -> None:
    assert resolve_algorithm(AlgorithmSection.model_validate({"name": name})) == PRESETS[name]


def test_k1_is_refused_as_a_term_of_the_loss_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.kl_estimator: found 'k1', .*'k2', 'k3'; .*expectation is zero"):
        resolve_algorithm(AlgorithmSection(kl_coefficient=0.01, kl_estimator="k1"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["mode=truncate", "upper=2"], Correction("token", "truncate", 2.0)),
        (["mode=mask", "level=geometric", "lower=0.5", "upper=2"], Correction("geometric", "mask", 2.0, 0.5)),
        ([], None),
    ],
)
def test_a_correction_of_the_configuration_is_one_of_the_loss(options: list[str], expected: Correction | None) -> None:
    config = load_config(None, [f"algorithm.correction.{option}" for option in options])
    assert resolve_algorithm(config.algorithm).loss.correction == expected
    assert config.algorithm.corrects == (expected is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["correction.mode=truncate"], r"algorithm\.correction: upper is null, mode 'truncate' needs a number"),
        (["correction.mode=mask", "correction.upper=2"], "lower is null, mode 'mask' needs a number"),
        (["correction.upper=2"], "upper is 2.0, allowed with mode 'none': null"),
        (
            ["correction.mode=mask", "correction.upper=1", "correction.lower=2"],
            "lower is 2.0, allowed is less than upper",
        ),
        (
            ["correction.mode=truncate", "correction.upper=2", "tis_cap=2"],
            "tis_cap is 2.0, allowed together with .*: null",
        ),
    ],
)
def test_a_correction_that_does_not_hold_together_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"algorithm.{option}" for option in options])


@pytest.mark.parametrize("cut", ["rollout.top_p=0.95", "rollout.top_k=50", "rollout.min_p=0.05"])
@pytest.mark.parametrize(
    "ratios",
    [
        ["algorithm.tis_cap=2"],
        ["algorithm.correction.mode=truncate", "algorithm.correction.upper=2"],
        ["algorithm.updates_per_step=2"],
    ],
)
def test_ratios_between_a_truncated_distribution_and_the_policy_are_refused(cut: str, ratios: list[str]) -> None:
    key, found = cut.split("=")
    with pytest.raises(
        ConfigError, match=rf"{key} is {found}, allowed with algorithm\..*: samples come from a truncated"
    ):
        load_config(None, [cut, *ratios])
    load_config(None, [cut])
    load_config(None, ratios)
