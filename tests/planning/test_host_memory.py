"""Memory of the host of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from masa import train
from masa.config import load_config
from masa.planning.host_memory import host_memory
from masa.planning.report import read_shape
from masa.rollout.room import load_model_config

_PARAMETERS = 8_190_735_360


def test_loading_is_one_copy_a_machine_and_all_else_is_one_a_process() -> None:
    settings = ["rollout.sleep_level=1", "rewards.verifier_workers=3", "rewards.verifier_memory_mb=256"]
    config = load_config(None, ["model.path=embedded", *settings])
    shape = read_shape(config, load_model_config(config.model), [])
    assert shape is not None
    found = host_memory(config, shape, processes=4, offloaded=1000, engine_weights=500, training=10, sampling=7)
    assert found.loading == 4 * shape.parameters
    assert (found.offloaded, found.sleeping, found.training, found.sampling) == (4000, 2000, 40, 28)
    assert found.verifiers == 4 * 3 * 256 * 2**20
    assert found.total == 4000 + 2000 + 40 + 28 + found.verifiers


@pytest.mark.parametrize(("level", "gigabytes"), [(0, 0.0), (1, 8 * 2 * _PARAMETERS / 1e9), (2, 0.0)])
def test_only_sleep_level_1_keeps_the_engines_weights_on_the_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, level: int, gigabytes: float
) -> None:
    launch = ["--launch", "configs/accelerate/node_zero3.yaml", "--gpu", "h100"]
    arguments = ["--config", "configs/qwen3_8b.yaml", "--dry-run", *launch, f"rollout.sleep_level={level}"]
    assert train.main([*arguments, f"run.dir={tmp_path / 'run'}"]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    [sleeping] = [row[2] for row in rows if len(row) > 2 and "sleep_level 1" in row[1]]
    [loading] = [row[2] for row in rows if len(row) > 2 and "one copy for all processes" in row[1]]
    assert sleeping.strip() == f"{gigabytes:.2f}"
    assert loading.strip() == f"{2 * _PARAMETERS / 1e9:.2f}"


def test_a_host_without_room_is_named_with_what_would_help(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa.planning.report.memory_here", lambda: 2 * 10**9)
    arguments = ["--config", "configs/quickstart.yaml", "--dry-run", f"run.dir={tmp_path / 'run'}"]
    assert train.main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the host has 2.0 GB of memory and up to 4." in said
    assert "lower rewards.verifier_workers" in said


def test_without_a_gpu_each_process_has_an_engine_of_vllm_with_its_cache_on_the_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    launch = ["--launch", "configs/accelerate/cpu_zero3.yaml", "rollout.engine=vllm", "rollout.kv_cache_gb=3"]
    arguments = ["--config", "configs/quickstart.yaml", "--dry-run", f"run.dir={tmp_path / 'run'}"]
    assert train.main([*arguments, *launch]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    [engines] = [float(row[2]) for row in rows if len(row) > 2 and "engines and their caches" in row[1]]
    assert engines == pytest.approx(2 * (3 * 2**30 + 4 * 853_376) / 1e9, abs=0.01)
