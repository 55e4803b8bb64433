"""Seconds of generation and updates, against numbers worked by hand and against a clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from measured_peaks import Case, measured_seconds, predicted

from masa import train
from masa.planning.devices import Speed
from masa.planning.seconds import Engines, Samples, forward_flops, generation_seconds, mean_context, update_flops
from masa.planning.shapes import DecoderShape
from masa.planning.time_report import duration

# N = 90 and L * A = 2 * 2 * 2 = 8: reading n tokens costs 2 * 90 n + 4 * 8 * n (n + 1) / 2.
_SHAPE = DecoderShape(
    layers=2,
    hidden=4,
    heads=2,
    kv_heads=1,
    head_width=2,
    intermediate=8,
    vocabulary=5,
    tied=False,
    query_key_norms=True,
    parameters=100,
    trained=100,
    table=10,
    largest_layer=30,
    active=90,
)
# Six rows of 3 + 2 - 1 = 4 tokens, each 720 FLOPs of matrices and 320 of attention.
_SAMPLES = [Samples(count=6, prompts=2, prompt=3, response=2)]
# In a cache of 100 bytes two sequences of 4 tokens; 12 tokens two at a time are 6 passes.
_ENGINE = Engines(count=1, devices=1, weight_bytes=1000, token_bytes=10, cache=100, running=4)


@pytest.mark.parametrize(
    ("trained", "checkpointing", "flops"),
    [
        (100, False, 6 * 3 * 1040),
        (100, True, 6 * 4 * 1040),
        (9, False, 6 * (3 * 320 + 2.1 * 720)),
        (9, True, 6 * (4 * 320 + 3.1 * 720)),
    ],
)
def test_an_update_computes_a_forward_pass_gradients_of_inputs_and_those_of_trained_weights(
    trained: int, checkpointing: bool, flops: float
) -> None:
    shape = replace(_SHAPE, trained=trained)
    assert forward_flops(shape, _SAMPLES) == 6 * 1040
    assert update_flops(shape, _SAMPLES, checkpointing=checkpointing) == pytest.approx(flops)


def test_a_full_update_has_the_flops_that_a_run_records() -> None:
    assert update_flops(_SHAPE, _SAMPLES, checkpointing=False) == _SHAPE.flops().update_flops([4] * 6)


def test_generation_reads_the_weights_and_the_running_sequences_once_a_pass() -> None:
    found = generation_seconds(_SHAPE, _SAMPLES, _ENGINE, Speed(1000.0, 100.0, ""))
    assert found is not None
    assert mean_context(_SAMPLES) == 4
    assert found.at_once == 2
    assert found.responses == pytest.approx(6 * (1000 + 2 * 10 * 4) / 100)
    assert found.prompts == pytest.approx(2 * (2 * 90 * 3 + 4 * 8 * 6) / 1000)


def test_where_computing_takes_longer_than_reading_it_is_what_counts() -> None:
    found = generation_seconds(_SHAPE, _SAMPLES, _ENGINE, Speed(10.0, 1e9, ""))
    assert found is not None
    assert found.responses == pytest.approx(6 * 2 * (2 * 90 + 4 * 8 * 4) / 10)


def test_engines_share_samples_and_the_devices_of_one_share_its_operations() -> None:
    two = replace(_ENGINE, count=2, devices=2, weight_bytes=500, token_bytes=5, cache=200)
    found = generation_seconds(_SHAPE, _SAMPLES, two, Speed(1000.0, 100.0, ""))
    assert found is not None
    assert found.at_once == 3  # that is all that one engine has
    assert found.responses == pytest.approx(2 * (500 + 3 * 5 * 4) / 100)
    assert found.prompts == pytest.approx(2 * 732 / 1000 / 4)


def test_generation_takes_as_many_passes_as_the_longest_response_has_tokens() -> None:
    uneven = [Samples(2, 1, 3, 10), Samples(6, 1, 3, 1)]
    found = generation_seconds(_SHAPE, uneven, replace(_ENGINE, cache=None, running=100), Speed(1e9, 100.0, ""))
    assert found is not None
    context = (20 * 8 + 6 * 3.5) / 26
    assert found.at_once == 8
    assert found.responses == pytest.approx(10 * (1000 + 2.6 * 10 * context) / 100)


def test_an_engine_without_room_for_a_sequence_has_no_time() -> None:
    assert generation_seconds(_SHAPE, _SAMPLES, replace(_ENGINE, cache=39), Speed(1.0, 1.0, "")) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (45.2, "45 s"),
        (119, "119 s"),
        (180, "3.0 min"),
        (3 * 3600, "3.0 h"),
        (100 * 3600, "4.2 days"),
        (None, "unknown"),
    ],
)
def test_durations_are_said_in_a_unit_that_can_be_read(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.usefixtures("accelerate_forgets")
def test_the_update_of_a_larger_model_takes_as_much_longer_as_its_flops_say() -> None:
    wider = {"hidden_size": 512, "intermediate_size": 2048}
    small, large = (
        Case(name, rows=2, per_batch=2, response=128, shape={"vocab_size": 1024, **shape})
        for name, shape in (("small", {}), ("large", wider))
    )
    flops = [
        update_flops(predicted(one)[1], [Samples(one.rows, one.rows, 32, one.response)], checkpointing=False)
        for one in (small, large)
    ]
    ratio, measured = flops[1] / flops[0], measured_seconds(large) / measured_seconds(small)
    assert ratio > 4
    assert measured == pytest.approx(ratio, rel=0.4)


# Of one step of the recipe: 3,072 rows of 2,048 + 8,192 - 1 tokens.
_MATRICES = 2 * 7_568_405_504 * 10_239
_ATTENTION = 4 * 36 * 32 * 128 * 10_239 * 10_240 // 2
_UPDATE = 3072 * 4 * (_MATRICES + _ATTENTION)


def _dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, dict[str, str], str]:
    recipe = ["--config", "configs/qwen3_8b.yaml", "--dry-run", "--launch", "configs/accelerate/node_zero3.yaml"]
    code = train.main([*recipe, f"run.dir={tmp_path / 'run'}", "run.steps=314", *arguments])
    said = capsys.readouterr()
    cells = [[part.strip() for part in line.split("│")] for line in said.out.splitlines() if line.count("│") >= 3]
    return code, {cell[1]: cell[2] for cell in cells}, said.out + said.err


def test_the_8b_recipe_has_the_times_of_its_flops_at_the_stated_utilisation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, rows, said = _dry_run(capsys, tmp_path, "--gpu", "h100")
    assert code == 0
    assert "989 TFLOP/s, 3,350 GB/s: NVIDIA H100 data sheet, SXM" in said
    assert "0.4 of the operations, 0.6 of the bytes" in said
    seconds = _UPDATE / (8 * 989.4e12 * 0.4)
    assert 650 < seconds < 750
    assert rows["update of a step"] == f"{seconds / 60:.0f} min"
    # 384 sequences an engine, 41 at a time in 37.62 GB; a pass reads the weights and 41 times 6,144 tokens.
    passes = 384 * 8192 / 41
    read = 2 * (8_190_735_360 - 151_936 * 4096) + 41 * 6144 * 147_456
    assert rows["sequences at once in an engine"] == "41"
    assert rows["generation of a step"].startswith(f"{passes * read / 3350e9 / 0.6 / 60:.0f} min")
    assert rows["the run"].startswith("unknown without the problems; 314 steps ")


def test_times_follow_what_is_said_of_the_gpu_and_of_its_utilisation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    rows = _dry_run(capsys, tmp_path, "--gpu", "80,500,3350", "--utilization", "0.8,0.6")[1]
    assert rows["update of a step"] == f"{_UPDATE / (8 * 500e12 * 0.8) / 60:.0f} min"


def test_a_gpu_of_which_only_the_memory_is_known_has_no_times(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, rows, said = _dry_run(capsys, tmp_path, "--gpu", "80")
    assert code == 0
    assert rows["a step"] == rows["the run"] == "unknown"
    assert "--gpu 80,989,3350" in said


@pytest.mark.parametrize("given", ["0.4", "0,0.5", "0.5,1.1", "much"])
def test_a_utilisation_that_is_no_pair_of_shares_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str
) -> None:
    code, _, said = _dry_run(capsys, tmp_path, "--gpu", "h100", "--utilization", given)
    assert code == 2
    assert f"--utilization: found '{given}', allowed: two shares" in said


def test_a_run_on_this_machine_is_planned_with_its_measured_speed_and_all_its_evaluations(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("masa.planning.time_report.speed_of", lambda *_, **__: Speed(1e12, 1e12, "measured here"))
    arguments = ["--config", "configs/quickstart.yaml", "--dry-run", f"run.dir={tmp_path / 'run'}", "run.steps=10"]
    assert train.main([*arguments, "evaluation.every=4"]) == 0
    said = capsys.readouterr().out
    assert "measured here" in said
    assert "10 steps" in said
    assert "4 evaluations" in said
