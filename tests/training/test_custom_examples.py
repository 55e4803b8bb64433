"""The Python blocks of docs/custom.md run as they stand, on fewer and shorter rollouts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_controls import HINTED_TEMPLATE

import masa
from masa.controls.requirements import check_own_controls
from masa.preflight import make_templates
from masa.rewards.verifiers import Limits, judge, resolve_verifier

PROJECT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "custom.md").read_text(encoding="utf-8"), re.DOTALL)
TRAINS = [block for block in BLOCKS if "MASATrainer(" in block]
(VERIFIER,) = [block for block in BLOCKS if "# my_verifiers.py" in block]
(SELECTION,) = [block for block in BLOCKS if "# my_selection.py" in block]
(CONTROLS,) = [block for block in BLOCKS if "# my_controls.py" in block]
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", (PROJECT / "docs" / "custom.md").read_text(encoding="utf-8"), re.DOTALL)
TINY = [
    "run.steps=1",
    "run.threads=1",
    "problems.limit=16",
    "problems.eval_limit=2",
    "evaluation.num_samples=1",
    "evaluation.num_metas=1",
    "rollout.max_solution_tokens=48",
    "rollout.max_meta_tokens=56",
    "rewards.verifier_workers=1",
    "algorithm.num_problems=3",
    "algorithm.num_solutions=2",
    "algorithm.num_metas=2",
    "checkpoint.every=0",
    "tracking.figures=false",
]


@pytest.mark.parametrize("block", TRAINS, ids=["reward", "verifier", "data", "callback"])
def test_an_example_trains(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = masa.load_config
    monkeypatch.setattr(
        masa, "load_config", lambda path, overrides: load(PROJECT / path, [*overrides, *TINY]), raising=False
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/custom.md", "exec"), {"__name__": "__main__"})
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    last: dict[str, Any] = json.loads(metrics.read_text().splitlines()[-1])
    assert last["step"] == 1
    assert ("reward/verifier_errors" in last) == ("verifier=" not in block)
    if "callbacks=" in block:
        assert last["callback/best_correctness"] == last["reward/correctness"]
    if "reward_functions" in block:
        assert last["reward/solution"] == pytest.approx(last["reward/correctness"] + 0.1, abs=0.1)


def test_the_verifier_of_the_page_gives_partial_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_verifiers.py").write_text(VERIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    verifier = resolve_verifier("my_verifiers:nearly")
    limits = Limits(1.0, 1024, tmp_path / "scratch")
    item = {"verifier": "my_verifiers:nearly", "answer": "7"}
    scores = [judge(verifier, {**item, "response": text}, limits).score for text in ("so 7", "so 8", "so 9", "none")]
    assert scores == [1.0, 0.5, 0.0, 0.0]


def test_the_notebook_of_the_python_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (PROJECT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    load = masa.load_config
    small = {**dict(one.split("=") for one in TINY if "steps" not in one)}

    def load_small(path: str, overrides: Any) -> Any:
        return load(PROJECT / path, [f"{key}={value}" for key, value in {**small, **overrides}.items()])

    monkeypatch.setattr(masa, "load_config", load_small, raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n".join(blocks), "docs/python.md", "exec"), names)
    assert names["trainer"].directory == Path("runs/notebook-1")
    assert sorted(names["run"].checkpoints) == [2, 4]
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "models" / "trained" / "config.json").is_file()


def test_the_selection_method_and_the_controls_of_the_page_are_taken_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_selection.py").write_text(SELECTION)
    (tmp_path / "my_controls.py").write_text(CONTROLS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_selection", "my_controls"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    blocks = [yaml.safe_load(block) for block in YAML_BLOCKS if block.startswith("controls:")]
    controls: dict[str, Any] = {key: value for block in blocks for key, value in block["controls"].items()}
    assert sorted(controls) == ["cutoff", "hinting", "own", "selection"]
    config = masa.load_config(None, {"prompts.solution": HINTED_TEMPLATE}).replace(controls=controls)
    make_templates(config)
    check_own_controls(config)
