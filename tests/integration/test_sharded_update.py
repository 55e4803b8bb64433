"""The gradient of an update is the same on one process, under DDP and under ZeRO 1, 2 and 3; so is going on from one
of them in another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from saved_folders import tensor_files
from two_processes import run_on_two_processes
from update_cases import LORA_ALPHA, STAGES, make_updater, second_update, two_updates, weights_of

from masa.checkpointing.size import checkpoint_size

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")

PROGRAM = Path(__file__).with_name("update_cases.py")
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("two_processes")
    run_on_two_processes(PROGRAM, str(folder), timeout=500)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "outcomes.pt")
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    torch.set_num_threads(1)
    return two_updates(Accelerator(cpu=True))


def _distance(found: Tensors, expected: Tensors) -> float:
    """The largest relative distance of a tensor, each by its norm."""
    assert found.keys() == expected.keys()
    return max(
        float((found[name] - one).norm() / one.norm()) for name, one in expected.items() if float(one.norm()) > 0
    )


VARIANTS = [
    "ddp",
    "ddp in small batches",
    *(f"zero{n}" for n in STAGES),
    *(f"zero{n} in small batches" for n in STAGES),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_have_the_gradient_of_one(outcomes: dict[str, Any], alone: dict[str, Any], variant: str) -> None:
    found = outcomes[variant]
    assert _distance(found["gradient"], alone["gradient"]) < 1e-5
    assert _distance(found["weights"], alone["weights"]) < 1e-5
    for name in ("policy/loss", "policy/gradient_norm", "policy/entropy", "policy/engine_mismatch"):
        assert found["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-5)
    assert found["metrics"]["policy/rows_left_out"] == 8


def test_prompts_that_rows_share_are_computed_once_on_any_number_of_processes(
    outcomes: dict[str, Any], alone: dict[str, Any]
) -> None:
    whole = two_updates(Accelerator(cpu=True), share_prompts="off")
    assert _distance(alone["gradient"], whole["gradient"]) < 1e-5
    for variant in ("ddp", "zero2", "zero3"):
        assert outcomes[variant]["metrics"]["policy/padding_waste"] < 0.9 * whole["metrics"]["policy/padding_waste"]


@pytest.mark.parametrize("stage", [2, 3])
def test_an_optimiser_on_the_cpu_takes_the_same_steps(
    outcomes: dict[str, Any], alone: dict[str, Any], stage: int
) -> None:
    assert _distance(outcomes[f"zero{stage} offloaded"]["gradient"], alone["gradient"]) < 1e-5
    assert _distance(outcomes[f"zero{stage} offloaded"]["weights"], alone["weights"]) < 1e-5


@pytest.mark.parametrize("stage", [2, 3])
def test_in_bf16_the_float32_weights_are_kept_through_a_checkpoint(
    outcomes: dict[str, Any], alone: dict[str, Any], stage: int
) -> None:
    found = outcomes[f"zero{stage} bf16"]
    assert {one.dtype for one in found["weights"].values()} == {torch.bfloat16}
    assert _distance(found["gradient"], alone["gradient"]) < 0.15  # as far as bf16 rounds
    resumed = outcomes[f"zero{stage} bf16 resumed"]
    assert all(resumed[name].equal(one) for name, one in found["weights"].items())


@pytest.mark.parametrize("stage", STAGES)
def test_bf16_gradients_of_many_micro_batches_add_up_in_float32(
    outcomes: dict[str, Any], alone: dict[str, Any], stage: int
) -> None:
    def error(gradient: Tensors) -> float:
        squares = sum(float((gradient[name] - one).square().sum()) for name, one in alone["gradient"].items())
        return float((squares / sum(float(one.square().sum()) for one in alone["gradient"].values())) ** 0.5)

    precise, rough = (outcomes[f"zero{stage} bf16 added up in {kind}"] for kind in ("float32", "bf16"))
    # Most of either error is that of bf16 passes, which both share.
    assert error(precise["gradient"]) < error(rough["gradient"])
    resumed = outcomes[f"zero{stage} bf16 added up in float32 resumed"]
    assert all(resumed[name].equal(one) for name, one in precise["weights"].items())


@pytest.mark.parametrize("stage", STAGES)
def test_a_head_of_its_own_is_sharded_as_well(outcomes: dict[str, Any], stage: int) -> None:
    expected = two_updates(Accelerator(cpu=True), tied=False)
    assert _distance(outcomes[f"zero{stage} untied"]["gradient"], expected["gradient"]) < 1e-5
    assert _distance(outcomes[f"zero{stage} untied"]["weights"], expected["weights"]) < 1e-5


@pytest.mark.parametrize(
    "variant", [*(f"zero{stage} after ddp" for stage in STAGES), "zero3 after zero1", "zero3 after zero2"]
)
def test_a_checkpoint_goes_on_under_another_sharding(
    outcomes: dict[str, Any], alone: dict[str, Any], variant: str
) -> None:
    assert _distance(outcomes[variant], alone["weights"]) < 1e-5


@pytest.mark.parametrize("before", ["ddp", *(f"zero{stage}" for stage in STAGES)])
def test_a_checkpoint_of_two_processes_goes_on_in_one(folder: Path, alone: dict[str, Any], before: str) -> None:
    assert _distance(second_update(Accelerator(cpu=True), folder / before), alone["weights"]) < 1e-5


@pytest.fixture(scope="module")
def alone_with_adapters() -> dict[str, Any]:
    pytest.importorskip("peft", reason="needs peft (the extra lora)")
    return two_updates(Accelerator(cpu=True), adapters=True)


@pytest.mark.parametrize("variant", ["ddp lora", *(f"zero{stage} lora" for stage in STAGES)])
def test_adapters_have_the_gradient_of_one_process(
    outcomes: dict[str, Any], alone_with_adapters: dict[str, Any], variant: str
) -> None:
    found = outcomes[variant]
    assert all("lora_" in name for name in found["gradient"])
    assert _distance(found["gradient"], alone_with_adapters["gradient"]) < 1e-5
    # What an engine and an export are given has the adapters in it.
    assert not any("lora_" in name for name in found["weights"])
    assert _distance(found["weights"], alone_with_adapters["weights"]) < 1e-5


@pytest.mark.parametrize("before", ["ddp_lora", *(f"zero{stage}_lora" for stage in STAGES)])
def test_what_is_saved_is_the_merged_model_and_the_adapters(folder: Path, before: str) -> None:
    pytest.importorskip("peft", reason="needs peft (the extra lora)")
    base = weights_of(make_updater(Accelerator(cpu=True))[0])
    saved, merged = tensor_files(folder / before, "optimizer"), tensor_files(folder / before, "model")
    name = "model.layers.1.self_attn.q_proj"
    down, up = (saved.read(f"value|model.{name}.lora_{part}.default.weight") for part in "AB")
    expected = base[f"{name}.weight"] + LORA_ALPHA / len(down) * up @ down
    torch.testing.assert_close(merged.read(f"{name}.weight"), expected)
    assert merged.read("model.embed_tokens.weight").equal(base["model.embed_tokens.weight"])


@pytest.mark.parametrize("stage", STAGES)
def test_adapters_go_on_under_another_sharding_and_in_one_process(
    outcomes: dict[str, Any], alone_with_adapters: dict[str, Any], folder: Path, stage: int
) -> None:
    assert _distance(outcomes[f"zero{stage} lora after ddp"], alone_with_adapters["weights"]) < 1e-5
    resumed = second_update(Accelerator(cpu=True), folder / f"zero{stage}_lora", adapters=True)
    assert _distance(resumed, alone_with_adapters["weights"]) < 1e-5


@pytest.mark.parametrize(
    ("saved", "dtype"),
    [("zero3", "float32"), ("zero2_bf16", "bfloat16"), ("zero3_bf16", "bfloat16"), ("zero1_fp32", "bfloat16")],
)
def test_the_optimiser_s_tensors_take_the_bytes_that_planning_counts(folder: Path, saved: str, dtype: str) -> None:
    tensors = tensor_files(folder / saved, "optimizer")
    model, _ = make_updater(Accelerator(cpu=True))
    parameters = sum(one.numel() for one in model.parameters())
    expected = checkpoint_size(parameters, parameters, dtype, sharded=True)
    assert sum(tensors.read(name).nbytes for name in tensors.names) == expected.training
