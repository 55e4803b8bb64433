"""The training loop, end to end, on the embedded policy."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from masa import Config, MASATrainer, Problem
from masa.config import config_from_mapping
from masa.embedded import load_embedded_policy, load_embedded_tokenizer
from masa.policy.update.updater import TrainingRow
from masa.rewards import Verdict
from masa.session import Session


def _changed(config: Config, **sections: dict[str, object]) -> Config:
    values = config.model_dump()
    for section, changes in sections.items():
        values[section].update(changes)
    return config_from_mapping(values)


def _rows(config: Config) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(config.run.dir) / "metrics.jsonl").read_text().splitlines()]


def _tiny(config: Config, **sections: dict[str, object]) -> Config:
    """Nothing held out, no figures, and few short rollouts."""
    small: dict[str, dict[str, object]] = {
        "problems": {"eval": None},
        "rollout": {"max_solution_tokens": 48, "max_meta_tokens": 40},
        "algorithm": {"num_problems": 2},
        "tracking": {"figures": False},
    }
    return _changed(config, **{name: small.get(name, {}) | sections.get(name, {}) for name in small | sections})


class RightAtFirst:
    """Finds everything right in its first ``calls`` and everything wrong afterwards."""

    def __init__(self, calls: float = math.inf) -> None:
        self.calls = calls
        self.answers: set[str] = set()

    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        self.answers |= {item["answer"] for item in items}
        self.calls -= 1
        right = self.calls >= 0
        return [Verdict(correct=right, status="correct" if right else "incorrect") for _ in items]


def test_a_run_writes_a_whole_run_directory(small_config: Config) -> None:
    summary = MASATrainer(small_config).train()
    folder = Path(small_config.run.dir)
    for name in ("config.yaml", "metrics.jsonl", "samples.jsonl", "predictions.jsonl", "environment.json"):
        assert (folder / name).stat().st_size > 0
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert {
        "accuracy_before",
        "accuracy_after",
        "r_difficulty_first",
        "r_difficulty_last",
        "r_length_first",
        "r_length_last",
        "r_notion_first",
        "r_notion_last",
        "steps",
        "warning_signs",
        "wall_seconds",
        "tokens_generated",
    } <= set(summary)
    assert summary["steps"] == 5
    assert len(list((folder / "figures").glob("*.png"))) == 4
    # The newest two, and whichever has the best held-out accuracy.
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())][-2:] == ["step_000004", "step_000005"]


def test_the_check_at_the_start_costs_seconds_and_is_counted_in_the_first_step(small_config: Config) -> None:
    config = _tiny(small_config, run={"steps": 2})
    MASATrainer(config).train()
    found = {row["step"]: row["time/start_check"] for row in _rows(config) if "time/start_check" in row}
    assert list(found) == [1]
    assert 0 < found[1] <= 5


def test_both_paths_are_rolled_out_and_trained(small_config: Config) -> None:
    MASATrainer(small_config).train()
    row = _rows(small_config)[1]
    assert row["cost/solution_tokens"] > 0
    assert row["cost/meta_tokens"] > 0
    assert row["cost/tokens_generated"] == row["cost/solution_tokens"] + row["cost/meta_tokens"]
    assert row["policy/rows_trained"] + row["policy/rows_left_out"] == 4 * (4 + 4)
    # One update per rollout: training's log-probs are the engine's own, up to rounding.
    assert row["policy/engine_mismatch_max"] < 1e-4


def test_without_the_meta_path_it_is_plain_grpo(small_config: Config) -> None:
    config = _changed(small_config, algorithm={"meta": False, "name": "grpo"})
    summary = MASATrainer(config).train()
    rows = _rows(config)
    assert rows[1]["cost/meta_tokens"] == 0
    assert not any(key.startswith(("meta/", "reward/r_")) for row in rows for key in row)
    assert summary["r_difficulty_last"] is None
    assert summary["accuracy_after"] is not None


def test_the_policy_changes_and_the_checkpoint_loads_in_transformers(small_config: Config) -> None:
    from transformers import AutoModelForCausalLM

    MASATrainer(small_config).train()
    checkpoint = Path(small_config.run.dir) / "checkpoints" / "step_000005"
    trained = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    start = load_embedded_policy().state_dict()
    assert set(trained) == set(start)
    assert any(not trained[name].equal(start[name]) for name in start)
    with safe_open(checkpoint / "model.safetensors", "pt") as stored:
        assert len(stored.keys()) > 0


def test_objects_take_the_place_of_what_the_config_names(small_config: Config) -> None:
    problems = [Problem(f"p{n}", f"{n} + {n + 1}", str(2 * n + 1)) for n in range(8)]
    verifier = RightAtFirst()
    policy = load_embedded_policy()
    trainer = MASATrainer(
        small_config,
        model=policy,
        tokenizer=load_embedded_tokenizer(),
        problems=problems,
        eval_problems=problems[:2],
        verifier=verifier,
        reward_functions=[lambda problem, text: 0.25],
    )
    summary = trainer.train()
    assert summary["accuracy_after"] == 1.0
    assert verifier.answers == {problem.answer for problem in problems}
    assert _rows(small_config)[1]["reward/solution"] == 1.25


def test_several_updates_per_rollout_measure_how_far_the_policy_moved(small_config: Config) -> None:
    config = _changed(small_config, algorithm={"updates_per_step": 2}, run={"steps": 2})
    MASATrainer(config).train()
    assert _rows(config)[1]["policy/approximate_kl"] > 0


def test_an_overlong_solution_is_punished(small_config: Config) -> None:
    config = _changed(
        small_config,
        algorithm={"overlong": {"punish_tokens": 8, "mask_truncated": True}},
        rollout={"max_solution_tokens": 12},
        run={"steps": 1},
    )
    MASATrainer(config).train()
    row = _rows(config)[1]
    assert row["rollout/solution_truncated"] > 0
    assert row["reward/solution"] < row["reward/correctness"]


def test_training_and_engine_agree_at_any_temperature_of_the_rollouts(small_config: Config) -> None:
    config = _tiny(small_config, rollout={"temperature": 0.7}, run={"steps": 1})
    MASATrainer(config, verifier=RightAtFirst(), reward_functions=[lambda problem, text: len(set(text))]).train()
    row = _rows(config)[1]
    assert row["policy/rows_trained"] > 0
    assert row["policy/engine_mismatch_max"] < 1e-4


def test_dr_grpo_divides_by_the_response_limit_of_solutions(small_config: Config) -> None:
    config = _tiny(small_config, algorithm={"name": "dr_grpo"})
    trainer = MASATrainer(config)
    row = TrainingRow((5,), (6, 7, 8), (-1.0, -1.0, -1.0), advantage=1.0)
    with Session(config, trainer.algorithm, trainer.prepared, steps=1, verifier=RightAtFirst()) as session:
        metrics = session.updater.update([[row]])
    assert metrics["policy/loss"] == pytest.approx(-3 / 48)


def test_every_step_learns_from_rollouts_of_the_weights_it_starts_from(small_config: Config) -> None:
    config = _tiny(small_config, run={"steps": 3})
    MASATrainer(config, verifier=RightAtFirst()).train()
    assert [row["rollout/staleness_max"] for row in _rows(config)[1:]] == [0, 0, 0]


def test_the_checkpoint_with_the_best_evaluation_is_kept_beside_the_newest(small_config: Config) -> None:
    problems = [Problem(f"p{n}", f"{n} + {n + 1}", str(2 * n + 1)) for n in range(2)]
    config = _tiny(
        small_config, run={"steps": 3}, evaluation={"every": 1, "num_metas": 0}, checkpoint={"every": 1, "keep": 1}
    )
    # The evaluation before training, the first step, and the evaluation after it.
    MASATrainer(config, problems=problems, eval_problems=problems, verifier=RightAtFirst(calls=3)).train()
    assert [row.get("eval/accuracy") for row in _rows(config)] == [1.0, 1.0, 0.0, 0.0]
    kept = sorted(path.name for path in (Path(config.run.dir) / "checkpoints").iterdir())
    assert kept == ["step_000001", "step_000003"]


def test_what_the_verifier_pool_could_not_judge_is_counted_in_the_step(small_config: Config) -> None:
    # No verifier can read an empty answer; a step in which all answers are such would end the run.
    problems = [Problem("unreadable", "0 + 1", answer=""), Problem("readable", "1 + 1", answer="2")]
    config = _tiny(small_config, run={"steps": 2})
    MASATrainer(config, problems=problems).train()
    assert [row["reward/verifier_errors"] for row in _rows(config)[1:]] == [4, 4]
    assert _rows(config)[1]["reward/verifier_timeouts"] == 0


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "cispo", "rloo"])
def test_every_algorithm_takes_a_step(small_config: Config, name: str) -> None:
    config = _changed(small_config, algorithm={"name": name}, run={"steps": 1}, tracking={"figures": False})
    MASATrainer(config).train()
    row = _rows(config)[1]
    assert row["policy/gradient_norm"] > 0
    assert row["policy/skipped_updates"] == 0


def test_a_kl_term_holds_the_policy_against_its_start(small_config: Config) -> None:
    config = _changed(small_config, algorithm={"kl_coefficient": 0.1}, run={"steps": 3})
    MASATrainer(config).train()
    rows = _rows(config)
    assert rows[1]["policy/reference_kl"] == pytest.approx(0.0, abs=1e-6)
    assert rows[3]["policy/reference_kl"] > 0


def test_real_competition_problems_run_through_every_part(small_config: Config) -> None:
    source = Path(__file__).parents[3] / "shared" / "data" / "math_train.parquet"
    if not source.exists():
        pytest.skip(f"needs {source.name} in the folder shared/data beside the project")
    config = _changed(
        small_config,
        problems={"train": str(source), "eval": None, "on_bad_row": "skip", "limit": 200},
        prompts={"solution": "default", "meta": "default", "max_tokens": 700},
        rollout={"max_solution_tokens": 32, "max_meta_tokens": 32},
        run={"steps": 2},
    )
    summary = MASATrainer(config).train()
    assert summary["steps"] == 2
    assert summary["accuracy_before"] is None


def test_a_part_of_the_score_is_the_reward_and_no_correct_solution(small_config: Config) -> None:
    class HalfRight:
        def verify(self, items: list[dict[str, str]]) -> list[Verdict]:
            return [Verdict(correct=False, status="incorrect", score=0.5) for _ in items]

    MASATrainer(_changed(small_config, run={"steps": 1}), verifier=HalfRight()).train()
    row = _rows(small_config)[1]
    assert row["reward/solution"] == 0.5
    assert row["rollout/solved_none"] == 1.0
