"""When controls switch on."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.config.controls import StabilisedSection
from masa.controls.stabilised import Stabilised


def test_without_conditions_controls_are_on_from_the_beginning() -> None:
    assert Stabilised(StabilisedSection()).since == 0


def test_after_step_waits_for_that_step_to_be_done() -> None:
    moment = Stabilised(StabilisedSection(after_step=3))
    seen = []
    for step in range(1, 6):
        moment.observe(step, {})
        seen.append(moment.since)
    assert seen == [None, None, 3, 3, 3]


def test_the_exponential_mean_is_corrected_for_its_start() -> None:
    moment = Stabilised(StabilisedSection(metric="r_difficulty", ema=0.5, above=1.0))
    moment.observe(1, {"r_difficulty": 0.4})
    assert moment.mean == pytest.approx(0.4)
    moment.observe(2, {"r_difficulty": 0.7})
    # (0.5 * 0.4 + 0.7) / 1.5
    assert moment.mean == pytest.approx(0.6)


def test_once_crossed_it_stays_crossed_and_keeps_the_moment() -> None:
    moment = Stabilised(StabilisedSection(metric="r_meta", ema=0.0, above=0.5))
    for step, value in enumerate((0.4, 0.6, 0.1), start=1):
        moment.observe(step, {"r_meta": value})
    assert moment.since == 2


def test_both_conditions_must_hold() -> None:
    moment = Stabilised(StabilisedSection(after_step=2, metric="r_meta", ema=0.0, above=0.5))
    moment.observe(1, {"r_meta": 0.9})
    assert moment.since is None
    moment.observe(2, {"r_meta": 0.9})
    assert moment.since == 2


def test_a_step_without_the_metric_leaves_the_mean() -> None:
    moment = Stabilised(StabilisedSection(metric="r_meta", ema=0.9, above=1.0))
    moment.observe(1, {"r_meta": 0.3})
    moment.observe(2, {})
    moment.observe(3, {"r_meta": math.nan})
    assert moment.mean == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.data())
def test_the_state_goes_through_json_without_a_trace(values: list[float], data: st.DataObject) -> None:
    section = StabilisedSection(metric="r_meta", ema=0.9, above=0.6, after_step=2)
    cut = data.draw(st.integers(1, len(values) - 1))
    whole, first, second = Stabilised(section), Stabilised(section), Stabilised(section)
    for step, value in enumerate(values):
        whole.observe(step, {"r_meta": value})
        if step < cut:
            first.observe(step, {"r_meta": value})
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step, value in enumerate(values[cut:], start=cut):
        second.observe(step, {"r_meta": value})
    assert second.state_dict() == whole.state_dict()
