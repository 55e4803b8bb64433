"""Auxiliary losses of routers are not trained, and a run says so by name."""

from pathlib import Path

import pytest
from small_policies import small_qwen3
from small_run import QUICKSTART, SMALL
from tiny import tiny_folder, tiny_model

from masa import MASATrainer, load_config
from masa.model.routers import describe_routers


def test_nothing_is_said_where_no_loss_is_asked_for() -> None:
    assert describe_routers(small_qwen3()) is None
    assert describe_routers(tiny_model("qwen3_moe")) is None


def test_a_run_with_output_router_logits_trains_and_says_that_the_losses_are_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("qwen3_moe", tmp_path / "model", output_router_logits=True, max_position_embeddings=512)
    options = ("problems.eval=null", "evaluation.every=0", "tracking.figures=false", "run.steps=1")
    limits = ("algorithm.num_problems=2", "rollout.max_solution_tokens=16", "rollout.max_meta_tokens=16")
    config = load_config(QUICKSTART, [*SMALL, *options, *limits, f"model.path={folder}", f"run.dir={tmp_path / 'run'}"])
    assert MASATrainer(config).train()["steps"] == 1
    said = capsys.readouterr().out
    assert "Qwen3MoeForCausalLM is configured with output_router_logits and router_aux_loss_coef" in said
    assert "auxiliary losses of routers are not trained" in " ".join(said.split())
