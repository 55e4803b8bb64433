"""Rollouts that wait in a checkpoint: they lie in arrays, and a run goes on with them."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_run import QUICKSTART, SMALL

from masa import MASATrainer, load_config
from masa.checkpointing.checkpoint import read_state
from masa.rollout.waiting import rollouts_of
from masa.tracking.keys import is_timing

_CARRYING = (
    "algorithm.dynamic_sampling.enabled=true",
    "algorithm.dynamic_sampling.oversample=3",
    "algorithm.tis_cap=2",
    "problems.eval=null",
    "tracking.figures=false",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "run.steps=4",
)


def _train(folder: Path, *, resume: bool = False) -> None:
    MASATrainer(load_config(QUICKSTART, [*SMALL, *_CARRYING, f"run.dir={folder}"])).train(resume=resume)


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    _train(folder)
    return folder


def _carrying(folder: Path) -> Path:
    """A checkpoint, not the last one, of a step that carried rollouts over."""
    step = next(row["step"] for row in _rows(folder)[1:-1] if row["rollout/carried_out"] > 0)
    return folder / "checkpoints" / f"step_{step:06d}"


def test_rollouts_that_are_carried_over_lie_in_arrays(whole: Path) -> None:
    checkpoint = _carrying(whole)
    carried = load_file(checkpoint / "training" / "carried_over.safetensors")
    state = read_state(checkpoint)
    counts = sum(one["solutions"] + one["metas"] for one in state["carried_over"])
    assert len(rollouts_of(carried)) == counts > 0
    assert "training/carried_over.safetensors" in state["files"]
    assert "token_ids" not in (checkpoint / "state.json").read_text()
    assert (checkpoint / "state.json").stat().st_size < 20_000


def test_a_run_goes_on_with_the_rollouts_of_an_earlier_version_s_checkpoint(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    checkpoint = _carrying(folder)
    for later in (folder / "checkpoints").glob("step_*"):
        if later.name > checkpoint.name:
            shutil.rmtree(later)
    state = read_state(checkpoint)
    rollouts = iter(rollouts_of(load_file(checkpoint / "training" / "carried_over.safetensors")))
    for one in state["carried_over"]:
        for kind in ("solutions", "metas"):
            one[kind] = [asdict(next(rollouts)) for _ in range(one[kind])]
    (checkpoint / "training" / "carried_over.safetensors").unlink()
    del state["files"]["training/carried_over.safetensors"]
    (checkpoint / "state.json").write_text(json.dumps(state, default=list))
    _train(folder, resume=True)
    assert _rows(folder) == _rows(whole)
