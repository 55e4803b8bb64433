"""Configurations changed in Python, and how they show themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masa import Config, load_config
from masa.config import ConfigError, config_from_mapping


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.replace("run.steps", 14),
        lambda config: config.replace({"run.steps": 14}),
        lambda config: config.replace(**{"run.steps": 14}),
        lambda config: config.replace(run={"steps": 14}),
        lambda config: config.replace({"run": {"steps": 14}}),
    ],
)
def test_a_value_is_replaced_and_all_else_stays(change: Any) -> None:
    config = load_config(None, {"run.seed": 3, "problems.columns": {"answer": "gold"}})
    changed = change(config)
    assert changed == load_config(None, ["run.seed=3", "problems.columns={answer: gold}", "run.steps=14"])
    assert config.run.steps is None


def test_overrides_are_texts_or_a_mapping_of_values() -> None:
    written = load_config(None, ["run.seed=3", "run.dir=a/b", "rollout.servers=[x, y]", "problems.verifier=null"])
    given = {"run": {"seed": 3}, "run.dir": Path("a/b"), "rollout.servers": ("x", "y"), "problems.verifier": None}
    assert load_config(None, given) == written


def test_a_mapping_that_is_a_value_takes_the_place_of_the_whole_value() -> None:
    config = load_config(None, {"problems.columns": {"answer": "gold"}})
    assert config.replace("problems.columns", {"id": "number"}).problems.columns == {"id": "number"}


def test_a_text_in_a_mapping_is_taken_as_it_is() -> None:
    assert load_config(None, {"run.name": "1e-6"}).run.name == "1e-6"
    with pytest.raises(ConfigError, match=r"run.steps: found '14', allowed: a whole number"):
        Config().replace("run.steps", "14")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run.stepz": 14}, "run.stepz: unknown key; did you mean run.steps?"),
        ({"run": {"seed": -1}}, "run.seed: found -1, allowed: at least 0"),
        ({"run.seed.deeper": 1}, "run.seed"),
        ({"run.callbacks": [{"path": "a:b", "argments": {}}]}, "did you mean run.callbacks.0.arguments?"),
        ({"problems.train": [{"source": "a", "wieght": 1.0}]}, "did you mean problems.train.0.weight?"),
    ],
)
def test_a_mistake_is_told_as_one_in_a_file_is(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().replace(changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("wrong", ["run.seed=1", 3, None])
def test_overrides_of_another_kind_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"overrides: found .*; allowed: a list of texts"):
        load_config(None, wrong)
    with pytest.raises(TypeError, match=r"replace: found .*; allowed: a key and a value"):
        Config().replace(wrong)


def test_a_configuration_shows_what_differs_from_the_defaults() -> None:
    config = load_config(None, {"run.steps": 14, "model.lora.rank": 8, "run.name": "<b>"})
    assert repr(config) == "Config(model.lora.rank=8, run.name='<b>', run.steps=14)"
    assert repr(Config()) == "Config()"
    assert repr(config.model) == "ModelSection(lora.rank=8)"
    shown = config._repr_html_()
    assert "<code>model.lora.rank</code></td><td>8</td><td>0</td>" in shown
    assert "<b>'" not in shown
    assert "all options have their defaults" in Config()._repr_html_()
    assert config_from_mapping(config.model_dump()) == config
