"""`masa predict` and `masa.predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

import masa
from masa import cli

_FEW = ["--metas", "2", "--set", "rewards.verifier_workers=1", "--config", "configs/quickstart.yaml"]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])


def test_predictions_of_texts_are_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "predictions.jsonl"
    texts = ["Find the sum: a=1, b=2.", "Find the sum: a=30, b=47."]
    assert cli.main(["predict", "--model", "embedded", *_FEW, "--out", str(out), *texts]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["problem"], row["index"]) for row in rows] == [(f"problem-{p}", i) for p in (1, 2) for i in (0, 1)]
    shown = capsys.readouterr().out
    assert "problem-2" in shown
    assert "pass rate" in shown
    python = masa.predict(texts, "embedded", config="configs/quickstart.yaml", num_metas=2)
    assert python["response"].tolist() == [row["response"] for row in rows]


def test_predictions_of_a_problem_source_are_written_as_a_table(tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    source = ["--problems", "embedded:test", "--limit", "3"]
    assert cli.main(["predict", "--model", "embedded", *_FEW, *source, "--out", str(out)]) == 0
    assert len(pandas.read_csv(out)) == 3 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "embedded"], "problems: give texts, or a file with --problems"),
        (["--model", "embedded", "--problems", "embedded:test", "a text"], "one of them alone"),
        (["a text"], "--model: a folder, a hub id or `embedded` is needed"),
        (["--model", "embedded", "--run", "runs/x", "a text"], "--model and --run"),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("on_gpu", "engine", "device"),
    [(True, "transformers", "cuda"), (True, "vllm_server", "cpu"), (False, "transformers", "cpu")],
)
def test_the_model_is_loaded_where_an_evaluation_loads_it(
    on_gpu: bool, engine: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from masa.config import load_config
    from masa.evaluation.running.generation import Policy
    from masa.evaluation.running.settings import Budget
    from masa.model import loading

    def load(section: Any, found: torch.device) -> None:
        raise RuntimeError(f"loaded on {found.type}")

    monkeypatch.setattr(loading, "load_policy", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    overrides = [f"rollout.engine={engine}", "rollout.servers=[http://nowhere:1]", "model.liger_kernel=off"]
    with pytest.raises(RuntimeError, match=f"loaded on {device}"):
        masa.predict("1 + 1", "embedded", overrides=overrides)
    with pytest.raises(RuntimeError, match=f"loaded on {device}"):
        Policy(load_config(overrides=overrides)).engine(Budget())
