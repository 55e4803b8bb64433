"""A mixture of experts trained with LoRA by two processes, against one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from two_processes import run_on_two_processes

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
pytest.importorskip("peft", reason="needs peft (the extra lora)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes wrote what came out."""
    found = tmp_path_factory.mktemp("experts")
    run_on_two_processes(Path(__file__).with_name("lora_expert_ranks.py"), str(found), timeout=500)
    return found


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "outcomes.pt")
    return found


def _distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def test_experts_learn_under_ddp_and_zero_1_and_2_what_they_learn_in_one_process(outcomes: dict[str, Any]) -> None:
    from lora_expert_ranks import updated

    alone = updated(Accelerator(cpu=True))
    assert alone["line"].endswith("the experts have adapters")
    for shape in ("ddp", "zero1", "zero2"):
        assert outcomes[shape]["line"] == alone["line"]
        assert outcomes[shape]["norm"] == pytest.approx(alone["norm"], rel=1e-5)
        assert _distance(outcomes[shape]["weights"], alone["weights"]) < 1e-5


def test_zero_3_leaves_experts_out_and_saves_whole_adapters(
    outcomes: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    from lora_expert_ranks import ATTENTION, updated

    assert "the experts stay as they are" in outcomes["zero3"]["line"]
    alone = updated(Accelerator(cpu=True), tmp_path / "alone", ATTENTION)
    assert _distance(outcomes["zero3 attention"]["weights"], alone["weights"]) < 1e-5
    found, expected = (
        load_file(one / "adapter" / "adapter_model.safetensors") for one in (folder / "zero3", tmp_path / "alone")
    )
    assert _distance(found, expected) < 1e-5
