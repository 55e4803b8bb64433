"""docs/embedded.md states what properties.json measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masa.embedded import DATA_DIRECTORY
from masa.embedded.solutions import ROUNDING, RUNNING_TOTAL
from masa.embedded.world import LEVELS

PAGE = (Path(__file__).parents[2] / "docs" / "embedded.md").read_text()
PROPERTIES = json.loads((DATA_DIRECTORY / "properties.json").read_text())
MEASURED = PROPERTIES["measured"]


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("held-out pass@1", MEASURED["pass_at_1"]),
        ("problems that every solution gets right", MEASURED["share_trivial"]),
        ("problems that no solution gets right", MEASURED["share_out_of_reach"]),
        ("`running total`: right", MEASURED["methods"][RUNNING_TOTAL.name]["success"]),
        ("`rounding`: right", MEASURED["methods"][ROUNDING.name]["success"]),
        ("r_length", MEASURED["r_length"]),
        ("r_difficulty", MEASURED["r_difficulty"]),
        ("r_notion", MEASURED["r_notion"]),
    ],
)
def test_the_page_states_the_measured_figure(label, value):
    assert f"| {label} | {value:.2f} |" in PAGE


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_page_states_each_levels_share_and_what_was_measured_on_it(level):
    measured = MEASURED["levels"][level.name]
    assert f"| {level.low} to {level.high} | {level.share} % |" in PAGE
    row = f"| {level.name} | {measured['problems']} | {measured['pass_at_1']:.2f} | {measured['length']:.1f} |"
    assert row in PAGE


def test_the_page_gives_the_size_and_the_command():
    assert f"{PROPERTIES['parameters']:,} parameters" in PAGE
    assert PROPERTIES["command"] in PAGE
