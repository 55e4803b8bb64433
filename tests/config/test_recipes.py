"""The recipes: what docs/method.md says of them is what they hold, and each passes a dry run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from masa import train
from masa.config import Config, load_config

_ROOT = Path(__file__).parents[2]
_CONFIGS = _ROOT / "configs"
_METHOD = (_ROOT / "docs" / "method.md").read_text()
_PREFIXES = ("masa_v1_", "mapr_v2_", "grpo_", "dapo_", "qwen3_")
RECIPES = sorted(path.stem for path in _CONFIGS.glob("*.yaml") if path.stem.startswith(_PREFIXES))


def _tables() -> list[list[list[str]]]:
    """The three tables of the section on recipes, as cells, without their heads."""
    section = _METHOD.split("## The recipes, line by line")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|\n").split("|")] for line in b.splitlines()[2:]] for b in blocks]


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.strip("`").split("."):
        value = getattr(value, part)
    return value


def _told(cell: str) -> Any:
    value = yaml.safe_load(cell)
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def _expected(name: str) -> dict[str, Any]:
    shared, controls, single = _tables()
    version = -2 if name.startswith("masa_v1_") else -1
    expected = {row[0]: _told(row[version]) for row in shared}
    if "_efficient_" in name:
        expected |= {row[0]: _told(row[version]) for row in controls}
    return expected | {key: _told(ours) for names, key, _, ours in single if f"`{name}`" in names}


def test_the_recipes_that_the_documentation_promises_are_there() -> None:
    qwen3 = [
        f"{kind}_qwen3_{size}" for kind in ("mapr_v2", "mapr_v2_efficient", "grpo") for size in ("4b", "8b", "14b")
    ]
    others = [f"{kind}_{model}" for kind in ("mapr_v2", "grpo") for model in ("llama31_8b", "gemma2_9b")]
    rest = ["masa_v1_qwen3_8b", "masa_v1_efficient_qwen3_8b", "mapr_v2_dapo_qwen3_8b", "dapo_qwen3_8b"]
    assert sorted([*qwen3, *others, *rest, "qwen3_8b", "qwen3_14b"]) == RECIPES
    named = {name for row in _tables()[2] for name in re.findall(r"`(\w+)`", row[0])}
    assert named <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_the_numbers_of_the_table(name: str) -> None:
    config = load_config(_CONFIGS / f"{name}.yaml")
    expected = _expected(name)
    assert len(expected) >= 27
    assert {key: _value(config, key) for key in expected} == expected
    assert config.algorithm.meta is not name.startswith(("grpo_", "dapo_"))
    assert config.run.dir == f"runs/{name}"


@pytest.mark.parametrize("name", ["mapr_v2_qwen3_4b", "mapr_v2_qwen3_8b", "mapr_v2_qwen3_14b", "mapr_v2_llama31_8b"])
def test_a_baseline_differs_from_its_recipe_by_the_meta_path_alone(name: str) -> None:
    other = f"grpo_{name.removeprefix('mapr_v2_')}"
    one, baseline = (load_config(_CONFIGS / f"{each}.yaml", ["run.dir=runs/x"]) for each in (name, other))
    assert baseline.algorithm == one.algorithm.model_copy(update={"meta": False})
    assert baseline.model_copy(update={"algorithm": one.algorithm}) == one


@pytest.mark.parametrize("size", ["8b", "14b"])
def test_the_names_to_start_from_are_the_second_versions_recipes(size: str) -> None:
    names = (f"qwen3_{size}", f"mapr_v2_qwen3_{size}")
    one, other = (load_config(_CONFIGS / f"{name}.yaml", ["run.dir=runs/x"]) for name in names)
    assert one == other


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_passes_a_dry_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch = ["--launch", str(_CONFIGS / "accelerate" / "node_zero3.yaml"), "--gpu", "h100"]
    code = train.main(["--config", str(_CONFIGS / f"{name}.yaml"), "--dry-run", *launch, f"run.dir={tmp_path / 'run'}"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "The configuration is valid" in said.out
    whole = " ".join(said.out.split())
    assert (": not checked: " in whole) == ("and was not checked, is named above" in whole)
    assert "does not fit" not in said.out
