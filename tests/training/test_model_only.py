"""Checkpoints that hold the model alone: what is in them, what reads them, what a run goes on from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_run import QUICKSTART, SMALL
from transformers import AutoModelForCausalLM

from masa import evaluate, train
from masa.checkpointing.checkpoint import list_checkpoints, read_state
from masa.config import load_config
from masa.tracking.keys import is_timing
from masa.trainer import MASATrainer

_OPTIONS = (*SMALL, "problems.eval=null", "evaluation.every=0", "tracking.figures=false", "run.steps=4")


def _train(folder: Path, *options: str, resume: bool = False) -> None:
    config = load_config(QUICKSTART, [*_OPTIONS, f"run.dir={folder}", *options])
    MASATrainer(config).train(resume=resume)


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    _train(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "run"
    _train(folder, "checkpoint.contents=model")
    return folder


def test_they_hold_the_weights_and_no_training_state(whole: Path, models: Path) -> None:
    (step, alone), beside = list_checkpoints(models / "checkpoints")[-1], list_checkpoints(whole / "checkpoints")[-1][1]
    assert step == 4
    assert not (alone / "training").exists()
    assert {"sampler", "rollouts_ahead", "policy"}.isdisjoint(read_state(alone))
    assert (alone / "model.safetensors").read_bytes() == (beside / "model.safetensors").read_bytes()
    assert _bytes(alone) < 0.5 * _bytes(beside)
    AutoModelForCausalLM.from_pretrained(alone)
    assert _rows(models) == _rows(whole)


def test_a_resume_without_one_to_go_on_from_is_refused_before_anything_is_touched(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(models, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    options = (*_OPTIONS, f"run.dir={folder}", "checkpoint.every=1")
    code = train.main(["--config", str(QUICKSTART), *options, "--resume"])
    said = capsys.readouterr().err
    assert code == 2
    assert "step_000004, step_000002 hold the model alone (checkpoint.contents: model)" in said
    assert f"model.path={folder}/checkpoints/step_000004" in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_resume_passes_over_them_to_the_newest_that_holds_all(whole: Path, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    newest = folder / "checkpoints" / "step_000004"
    shutil.rmtree(newest)
    shutil.copytree(models / "checkpoints" / "step_000004", newest)
    with pytest.warns(UserWarning, match="step_000004 holds the model alone; resuming from step 2"):
        _train(folder, resume=True)
    assert (folder / "checkpoints" / "model_only_step_000004").is_dir()
    assert (newest / "training").is_dir()
    assert _rows(folder) == _rows(whole)


def test_an_evaluation_takes_one(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(models, folder)
    options = ["--benchmarks", "embedded", "--limit", "2", "--samples", "1", "--metas", "0", "--max-tokens", "16"]
    assert evaluate.main(["--run", str(folder), *options]) == 0
    assert (folder / "evaluation" / "step-4").is_dir()
