"""What a dry run says of a launch, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masa import train

_RECIPE = ["--config", "configs/qwen3_8b.yaml", "--dry-run", "--gpu", "h100"]


def _run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, str]:
    code = train.main([*_RECIPE, f"run.dir={tmp_path / 'run'}", *arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def _launch(tmp_path: Path, settings: dict, extra: str = "") -> str:
    (tmp_path / "zero.json").write_text(json.dumps(settings))
    file = tmp_path / "launch.yaml"
    file.write_text(
        f"compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_machines: 1\nnum_processes: 8\n{extra}"
        f"machine_rank: 0\ndeepspeed_config: {{deepspeed_config_file: {tmp_path / 'zero.json'}}}\n"
    )
    return str(file)


def test_the_recipe_fits_the_launch_that_it_is_written_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = _run(capsys, tmp_path, "--launch", "configs/accelerate/node_zero3.yaml")
    assert code == 0
    assert "8,190,735,360" in said
    assert "DeepSpeed ZeRO 3" in said
    assert "little memory" not in said
    assert "does not fit" not in said
    assert "LossParameters(" not in said


def test_a_small_share_of_the_gpu_is_called_starving_and_a_large_one_too_large(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    launch = ("--launch", "configs/accelerate/node_zero3.yaml")
    assert (
        "leaves the engine little memory" in _run(capsys, tmp_path, *launch, "rollout.gpu_memory_utilization=0.45")[1]
    )
    assert "does not fit" in _run(capsys, tmp_path, *launch, "rollout.gpu_memory_utilization=0.85")[1]


@pytest.mark.parametrize(
    ("settings", "extra", "part"),
    [
        ({"zero_optimization": {"stage": 0}}, "", "zero_optimization.stage: found 0"),
        ({"zero_optimization": {"stage": 2}, "gradient_clipping": 7}, "", "gradient_clipping: found 7"),
        ({"zero_optimization": {"stage": 2}}, "mixed_precision: bf16\n", "will be ignored"),
    ],
)
def test_a_launch_that_the_run_would_refuse_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: dict, extra: str, part: str
) -> None:
    code, said = _run(capsys, tmp_path, "--launch", _launch(tmp_path, settings, extra))
    assert code == 2
    assert part in said


def test_bfloat16_without_deepspeed_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = _run(capsys, tmp_path)
    assert code == 2
    assert "model.dtype: found bfloat16" in said


def test_one_process_of_a_launch_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert _run(capsys, tmp_path) == (0, "")


@pytest.mark.parametrize("option", [("--launch", "x.yaml"), ("--gpu", "h100"), ("--utilization", "0.4,0.6")])
def test_what_only_a_dry_run_plans_with_is_refused_without_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: tuple[str, str]
) -> None:
    folder = tmp_path / "run"
    assert train.main(["--config", "configs/quickstart.yaml", f"run.dir={folder}", *option]) == 2
    assert f"{option[0]}: found without --dry-run" in capsys.readouterr().err
    assert not folder.exists()
