"""The line of the banner that says how long a run will take."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import Qwen3Config

from masa.config import load_config
from masa.planning import estimate as module
from masa.planning.data_sheets import DATA_SHEETS
from masa.planning.devices import Device, Speed
from masa.planning.estimate import estimated_time

CONFIG = load_config(overrides=["problems.eval=embedded:test", "evaluation.every=2", "rollout.engine=transformers"])
MODEL = Qwen3Config(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, vocab_size=512,
)  # fmt: skip


def _line(model: Any = MODEL, *, steps: tuple[int, int] = (0, 10), **changes: Any) -> str | None:
    return estimated_time(CONFIG.replace(changes), model, longest=32, held_out=4, steps=steps)


@pytest.fixture
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU of a known speed."""
    speed = Speed(1e12, 1e11, "given")
    monkeypatch.setattr(module, "run_speeds", lambda config, run: (speed, speed))
    monkeypatch.setattr(module, "find_device", lambda described: Device("CPU", None, here=True))


@pytest.mark.usefixtures("_measured")
def test_a_new_run_is_estimated_by_the_arithmetic_of_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa.planning.report import read_shape
    from masa.planning.seconds import generation_seconds
    from masa.planning.time_report import engines_of, evaluation_samples, step_seconds

    asked: list[Any] = []
    monkeypatch.setattr(module, "step_seconds", lambda *given: asked.append(given) or step_seconds(*given))
    monkeypatch.setattr(module, "duration", lambda seconds: f"<{seconds:.6f}>")
    line = _line()
    shape = read_shape(CONFIG, MODEL, [])
    assert shape is not None
    _, _, run, sampling, learning = asked[0]
    assert (sampling.flops, sampling.bandwidth) == (0.4e12, 0.6e11)
    step = step_seconds(CONFIG, shape, run, sampling, learning).total
    one = generation_seconds(shape, evaluation_samples(CONFIG, 4, 32), engines_of(CONFIG, shape, run), sampling)
    assert step is not None
    assert one is not None
    # Evaluations: before, after, and after steps 2, 4, 6 and 8.
    assert line is not None
    assert line.startswith(f"Time: at most about <{10 * step + 6 * one.total:.6f}>, an estimate by arithmetic")


@pytest.mark.usefixtures("_measured")
def test_a_resumed_run_is_estimated_by_its_own_steps() -> None:
    rows = [{"step": step, "time/step": 3.0, "time/evaluation": 10.0} for step in (1, 2)]
    rows = [{"step": 0, "time/evaluation": 10.0}, *rows]
    line = estimated_time(CONFIG, MODEL, longest=32, held_out=4, steps=(2, 10), recorded=rows)
    # 8 steps, and evaluations after steps 4, 6, 8 and 10.
    assert (
        line
        == "Time left: about 1 min 04 s, an estimate from the newest 2 steps (3.0 s each) and the evaluations so far"
    )


@pytest.mark.usefixtures("_measured")
def test_an_estimate_from_one_step_speaks_of_one_step() -> None:
    rows = [{"step": 1, "time/step": 3.0}]
    line = estimated_time(CONFIG, MODEL, longest=32, held_out=0, steps=(1, 10), recorded=rows)
    assert line == "Time left: about 27.0 s, an estimate from the newest step (3.0 s)"


@pytest.mark.usefixtures("_measured")
def test_where_nothing_can_be_known_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _line() is not None
    assert _line(steps=(10, 10)) is None
    assert _line(object()) is None
    # A GPU whose numbers are not known is not measured beside a model and an engine that fill it.
    monkeypatch.setattr(module, "find_device", lambda described: Device("some GPU", 8 * 10**9, here=True))
    assert _line() is None
    sheet = DATA_SHEETS["h100"]
    monkeypatch.setattr(module, "find_device", lambda described: Device("H100", 80 * 10**9, sheet, here=True))
    assert _line() is not None


@pytest.mark.usefixtures("_measured")
def test_a_cold_start_is_named_as_not_counted() -> None:
    line = _line(**{"cold_start.enabled": True})
    assert line is not None
    assert "without verification, checkpoints, a cold start and communication" in line
