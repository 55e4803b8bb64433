"""Each control alone and all together in the embedded world: they run, resume bit for bit, and share their work."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_controls import CUTOFF, GATING, HINTING, SMALL

from masa import Callback, Config, MASATrainer, load_config
from masa.embedded.measure import boxed_answer
from masa.rewards import Verdict
from masa.run_state import RunState
from masa.tracking.keys import is_timing

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SHORT = (*SMALL, "checkpoint.every=2", "run.steps=4")
SPARED = ("control/num_metas", "control/predictions_kept")
EXPERT = ("controls.expert.enabled=true", "controls.expert.floor=0.0", "controls.expert.batch_size=4")
# Few problems, so that they come again.
CHEAP = (
    *GATING[1:],
    "controls.selection.method=combined",
    "controls.selection.keep_predictions=8",
    "controls.gating.gated_metas=history",
    "algorithm.num_metas={at_first: 3, when_calibrated: 2}",
    "controls.gating.min_audits=1",
    "controls.gating.target_precision=0.0",
    "problems.limit=6",
)
CONTROLS = {
    "cheap predictions": CHEAP,
    "gating": GATING,
    "gating without replacement": (*GATING, "controls.gating.gated=leave_out"),
    "cutoff": (*CUTOFF, "controls.cutoff.mask_cut=true"),
    "hinting": HINTING,
    "expert": EXPERT,
    "all": (*GATING, *CUTOFF, *HINTING, *EXPERT, "controls.stabilised.after_step=1"),
}


def _config(folder: Path, *overrides: str) -> Config:
    return load_config(QUICKSTART, [*SHORT, f"run.dir={folder}", *overrides])


class ReadsTheBox:
    """Judges in this process: a pool of workers would take longer to start than these runs to finish."""

    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        right = [boxed_answer(item["response"]) == item["answer"] for item in items]
        return [Verdict(correct=one, status="correct" if one else "incorrect") for one in right]


def _train(config: Config, *, resume: bool = False) -> None:
    MASATrainer(config, verifier=ReadsTheBox()).train(resume=resume)


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _samples(folder: Path) -> list[dict[str, Any]]:
    """Those of the first step."""
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [one for one in samples if one["step"] == 1]


def _weights(folder: Path, step: int = 4) -> dict[str, Any]:
    return load_file(folder / "checkpoints" / f"step_{step:06d}" / "model.safetensors")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "cheap predictions" else name for name in CONTROLS]
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(_config(whole, *CONTROLS[name]))
    _train(_config(resumed, *CONTROLS[name], "run.steps=2"))
    _train(_config(resumed, *CONTROLS[name]), resume=True)
    assert _rows(resumed) == _rows(whole)
    assert (resumed / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()
    expected, found = _weights(whole), _weights(resumed)
    assert all(found[key].equal(expected[key]) for key in expected)
    _acts(name, whole)


def _acts(name: str, folder: Path) -> None:
    """The control did something that its metrics show."""
    rows = _rows(folder)[1:]

    def total(key: str) -> float:
        return sum(row.get(key) or 0 for row in rows)

    if name.startswith("gating") or name == "all":
        assert total("cost/problems_gated") > 0
        assert any(json.loads(line)["pass_rate"] is None for line in (folder / "predictions.jsonl").open())
        assert all(row["cost/problems_rolled_out"] >= 1 for row in rows)
        if "without" not in name:
            assert {row["cost/problems_rolled_out"] for row in rows} == {4}
    if name == "cheap predictions":
        assert rows[0]["control/num_metas"] == 3
        assert 2 in [row["control/num_metas"] for row in rows]
        assert total("control/predictions_kept_share") > 0
        assert rows[-1]["control/combined_problems"] > 0
        assert all("control/gated_metas_rewarded" in row for row in rows)
    if name in ("cutoff", "all"):
        assert total("control/cut_share") > 0
    if name in ("hinting", "all"):
        assert total("control/hinted_share") > 0
    if name in ("expert", "all"):
        assert total("control/expert_cloning_steps") > 0
    if name == "all":
        assert [row["control/on"] for row in rows] == [0, 1, 1, 1]
        assert rows[0]["cost/problems_gated"] == 0


def test_without_controls_a_step_says_nothing_of_controls(tmp_path: Path) -> None:
    long = ("rollout.max_solution_tokens=128", "algorithm.num_solutions=8")
    _train(_config(tmp_path / "run", *long, "run.steps=1", "algorithm.meta=false"))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    assert not any(key.startswith("control/") for key in row)
    assert "time/meta_rollout" not in row
    assert row["cost/flops"] == row["cost/generation_flops"] + row["cost/update_flops"] > 0
    assert row["cost/problems_drawn"] == row["cost/problems_rolled_out"] == 4
    assert row["cost/tokens_generated"] == row["cost/solution_tokens"] > 0
    assert row["cost/tokens_trained"] > 0


class Interrupted(Callback):
    """A run that breaks off in its third step."""

    def on_rewards(self, run: RunState) -> None:
        if run.step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["all", pytest.param("cheap predictions", marks=pytest.mark.slow)])
def test_a_run_that_is_sampled_ahead_with_controls_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    ahead = (*CONTROLS[name], "rollout.async_steps=1", "algorithm.tis_cap=2")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(_config(whole, *ahead))
    with pytest.raises(KeyboardInterrupt):
        MASATrainer(_config(resumed, *ahead), verifier=ReadsTheBox(), callbacks=[Interrupted()]).train()
    _train(_config(resumed, *ahead), resume=True)
    rows = _rows(whole)
    assert _rows(resumed) == rows
    assert (resumed / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()
    expected, found = _weights(whole), _weights(resumed)
    assert all(found[key].equal(expected[key]) for key in expected)
    assert [row["rollout/staleness"] for row in rows[1:]] == [0, 1, 1, 1]
    assert sum(row["cost/problems_gated"] for row in rows[1:]) > 0


def test_the_time_until_the_last_decision_and_from_it_on_is_told(tmp_path: Path) -> None:
    _train(_config(tmp_path / "run", *CUTOFF, "run.steps=1"))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert 0 < row["time/meta_rollout"] + row["time/solution_rollout"] <= row["time/rollout"]


@pytest.mark.parametrize("name", ["all", pytest.param("cheap predictions", marks=pytest.mark.slow)])
def test_two_processes_decide_and_train_alike(tmp_path: Path, name: str) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    overrides = (*CONTROLS[name], "run.steps=2")
    MASATrainer(_config(alone, *overrides)).train()
    # With --cpu and --num_processes 2 in place of the file, accelerate starts one process.
    launch = ["--config_file", str(QUICKSTART.parent / "accelerate" / "cpu_ddp.yaml"), "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, "-m", "masa.train"]
    command += ["--config", str(QUICKSTART)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [*SHORT, f"run.dir={together}", *overrides]
    finished = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=280)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for folder, processes in ((alone, 1), (together, 2)):
        state = json.loads((folder / "checkpoints" / "step_000002" / "state.json").read_text())
        assert len(state["rollouts_ahead"]) == processes  # each process has its own
    expected, found = _rows(alone), _rows(together)
    assert len(found) == len(expected) == 3
    for row, other in zip(found, expected, strict=True):
        decided = [key for key in other if key.startswith(("control/gat", "cost/problems", "control/on", *SPARED))]
        assert {key: row[key] for key in decided} == {key: other[key] for key in decided}
    # Sums over two processes round differently; the first step's rollouts are the same token for token.
    assert found[1]["cost/tokens_generated"] == expected[1]["cost/tokens_generated"]
    assert found[1]["policy/gradient_norm"] == pytest.approx(expected[1]["policy/gradient_norm"], rel=1e-3)
    # The first process writes texts also of what the other one has sampled.
    first_step, of_one = _samples(together), _samples(alone)
    assert first_step == of_one
    assert len(first_step) > 2
