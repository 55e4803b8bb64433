"""What is not installed: refused by the run and by the dry run for this machine, a line for another machine."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from masa import train
from masa.config import ConfigError, load_config
from masa.planning.devices import Device
from masa.planning.launch import Launch, planned_launch
from masa.planning.report import require_launch

_QUICKSTART = "configs/quickstart.yaml"
_CASES = [
    (["rollout.engine=vllm"], {}, "vllm", "rollout.engine: found 'vllm', but vllm is not installed"),
    (["rollout.engine=vllm_server"], {}, "vllm", "rollout.engine: found 'vllm_server', but vllm is not installed"),
    (["model.lora.rank=4"], {}, "peft", "model.lora.rank: found 4, allowed without peft: 0"),
    ([], {"ACCELERATE_USE_DEEPSPEED": "true"}, "deepspeed", "found DEEPSPEED, but deepspeed is not installed"),
    (["model.liger_kernel=on"], {}, "liger_kernel", "model.liger_kernel: found 'on', allowed without"),
    (["rewards.notion_match=lemma"], {}, "simplemma", "rewards.notion_match: found 'lemma', allowed without"),
    (["model.attention=flash_attention_2"], {}, "flash_attn", "model.attention: found 'flash_attention_2', allowed"),
]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec

    def hidden(*packages: str) -> None:
        def look(name: str, package: str | None = None) -> ModuleSpec | None:
            return None if name in packages else find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", look)
        monkeypatch.setattr("masa.model.loading.find_spec", look)
        monkeypatch.setattr("masa.rewards.notions.find_spec", look)

    return hidden


@pytest.mark.parametrize("mode", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize(("overrides", "variables", "package", "part"), _CASES)
def test_what_is_not_installed_is_refused_before_anything_is_loaded(
    overrides: list[str],
    variables: dict[str, str],
    package: str,
    part: str,
    mode: list[str],
    hide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hide(package, "kernels")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = train.main(["--config", _QUICKSTART, f"run.dir={tmp_path / 'run'}", *overrides, *mode])
    assert code == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("overrides", "variables", "package", "part"), _CASES)
def test_for_another_machine_it_is_a_line(
    overrides: list[str], variables: dict[str, str], package: str, part: str, hide
) -> None:
    config = load_config(_QUICKSTART, [*overrides])
    launch = Launch(1, 1, {}, "a launch")
    gpu = Device("GPU", 80 * 10**9)
    hide(package, "kernels")
    if variables:
        launch = planned_launch("configs/accelerate/node_zero3.yaml")
    assert [line for line in require_launch(config, launch, gpu, elsewhere=True) if part in line]


@pytest.mark.parametrize("engine", ["auto", "vllm"])
def test_engines_that_processes_cannot_be_divided_into_are_refused(engine: str) -> None:
    config = load_config(_QUICKSTART, [f"rollout.engine={engine}", "rollout.tensor_parallel_size=3"])
    gpu = Device("GPU", 80 * 10**9)
    with pytest.raises(ConfigError, match=r"tensor_parallel_size: found 3, allowed with engine=vllm: divisors .* 8"):
        require_launch(config, Launch(8, 1, {}, "a launch"), gpu, elsewhere=True)
    assert isinstance(require_launch(config, Launch(9, 1, {}, "a launch"), gpu, elsewhere=True), list)


def test_a_run_of_one_process_refuses_an_engine_of_three_before_it_loads_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa.rollout.vllm.engine.vllm_is_installed", lambda: True)
    monkeypatch.setattr("masa.session.load_policy", lambda *_: pytest.fail("the model was loaded"))
    wanted = ["rollout.engine=vllm", "rollout.tensor_parallel_size=3", f"run.dir={tmp_path / 'run'}"]
    for mode in ([], ["--dry-run"]):
        assert train.main(["--config", _QUICKSTART, *wanted, *mode]) == 2
        assert "rollout.tensor_parallel_size: found 3" in capsys.readouterr().err


def test_a_sleeping_engine_is_refused_by_a_dry_run_where_there_is_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("masa.rollout.vllm.engine.vllm_is_installed", lambda: True)
    wanted = ["rollout.engine=vllm", "rollout.sleep_level=2", f"run.dir={tmp_path / 'run'}"]
    assert train.main(["--config", _QUICKSTART, *wanted, "--dry-run"]) == 2
    assert "rollout.sleep_level: found 2, allowed without a GPU: 0" in capsys.readouterr().err
