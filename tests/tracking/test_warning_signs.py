"""Signs that a run cannot learn, or comes apart."""

from typing import get_args

import pytest

from masa.config import Config
from masa.config.signs import SignName
from masa.tracking.outcome import summarize
from masa.tracking.warning_signs import SIGNS, WINDOW, sign_history, signs_of

HEALTHY = {
    "meta/parse_rate": 0.9,
    "rollout/solution_truncated": 0.1,
    "rollout/solved_none": 0.3,
    "rollout/solved_all": 0.2,
    "policy/gradient_norm": 0.5,
    "policy/entropy": 1.0,
    "policy/reference_kl": 0.01,
    "rollout/solution_length": 100.0,
}


def _steps(*changes: dict[str, float]) -> list[dict[str, float]]:
    """So many steps as changes, each beside a healthy run's values."""
    return [{"step": step, **HEALTHY, **change} for step, change in enumerate(changes, 1)]


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"meta/parse_rate": 0.0}, "metas_unparsed"),
        ({"rollout/solution_truncated": 0.6}, "responses_truncated"),
        ({"rollout/solved_none": 0.7, "rollout/solved_all": 0.3}, "groups_flat"),
        ({"policy/gradient_norm": 0.0}, "no_gradient"),
        ({"policy/reference_kl": 1.5}, "kl_explosion"),
    ],
)
def test_a_sign_is_seen_after_a_window_and_not_before(change: dict[str, float], sign: str) -> None:
    assert signs_of(_steps(*[change] * (WINDOW - 1))) == []
    assert signs_of(_steps(*[change] * WINDOW)) == [sign]
    assert signs_of(_steps(*[{}] * WINDOW)) == []


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"policy/entropy": 0.05}, "entropy_collapse"),
        ({"rollout/solution_length": 301.0}, "length_explosion"),
        ({"meta/parse_rate": 0.4}, "parse_rate_falling"),
    ],
)
def test_what_changed_since_the_beginning_is_seen(change: dict[str, float], sign: str) -> None:
    assert signs_of(_steps(*[{}] * WINDOW, *[change] * WINDOW)) == [sign]
    assert signs_of(_steps(*[change] * 2 * WINDOW)) == []


def test_under_a_tenth_of_readable_metas_names_the_cold_start() -> None:
    assert signs_of(_steps(*[{"meta/parse_rate": 0.09}] * WINDOW)) == ["metas_unparsed"]
    assert signs_of(_steps(*[{"meta/parse_rate": 0.11}] * WINDOW)) == []
    assert "masa cold-start --config FILE --out FOLDER" in SIGNS["metas_unparsed"].advice


def test_metrics_that_a_run_does_not_have_are_no_sign() -> None:
    assert signs_of([{"step": step} for step in range(1, 20)]) == []


def test_the_summary_has_the_first_and_the_last_step_of_each_sign() -> None:
    rows = _steps(*[{}] * 5, *[{"policy/gradient_norm": 0.0}] * 7, *[{}] * 3)
    assert sign_history(rows) == {"no_gradient": {"first": 10, "last": 12}}
    assert summarize([{"step": 0}, *rows])["warning_signs"] == {"no_gradient": {"first": 10, "last": 12}}


def test_every_sign_advises_options_that_exist() -> None:
    assert set(SIGNS) == set(get_args(SignName))
    sections = Config().model_dump()
    for sign in SIGNS.values():
        named = [word.strip(".,:;()").split("=")[0] for word in sign.advice.split()]
        options = [word for word in named if "." in word and not word.endswith("jsonl")]
        assert options or "samples.jsonl" in sign.advice
        for option in options:
            found = sections
            for part in option.split("."):
                assert part in found, option
                found = found[part]
