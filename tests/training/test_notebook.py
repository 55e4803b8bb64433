"""A trainer used from a notebook: step by step, asked in between, saved, and its run read again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from small_run import QUICKSTART, SMALL, TINY
from transformers import AutoModelForCausalLM, AutoTokenizer

import masa
from masa import Config, MASATrainer, load_config
from masa.embedded import load_embedded_policy
from masa.export import HubPushError
from masa.run import NoRunError
from masa.tracking.keys import is_timing

_TINY = {**TINY, "checkpoint.every": 0, "checkpoint.keep": 9}
MakeConfig = Callable[..., Config]


@pytest.fixture
def tiny(tmp_path: Path) -> MakeConfig:
    def make(folder: str = "run", **changes: Any) -> Config:
        small = load_config(QUICKSTART, SMALL)
        return small.replace({**_TINY, "run.dir": tmp_path / folder, "run.steps": 4, **changes})

    return make


def _untimed(frame: pandas.DataFrame) -> pandas.DataFrame:
    return frame[[column for column in frame if not is_timing(column)]]


def test_steps_taken_one_by_one_and_questions_between_them_change_nothing_of_the_run(tiny: MakeConfig) -> None:
    whole = MASATrainer(tiny("whole"))
    summary = whole.train()
    parts = MASATrainer(tiny("parts"))
    seen = list(parts.steps(1))
    predicted = parts.predict("Compute 3 + 4.", num_metas=3)
    assert list(predicted["index"]) == [0, 1, 2]
    for metrics in parts.steps(2):
        seen.append(metrics)
        parts.solve({"problem": "Find the sum: a=1, b=2.", "answer": "3"}, num_solutions=2)
    assert sorted(masa.load_run(parts.directory).checkpoints) == [1, 3]
    assert parts.metrics.index.tolist() == [0, 1, 2, 3]
    assert parts.train()["accuracy_after"] == summary["accuracy_after"]
    pandas.testing.assert_frame_equal(_untimed(parts.metrics), _untimed(whole.metrics))
    assert seen[2]["policy/loss"] == whole.metrics["policy/loss"][3]


def test_a_loop_that_is_left_keeps_its_step_and_another_trainer_goes_on(tiny: MakeConfig) -> None:
    config = tiny()
    with MASATrainer(config) as trainer:
        for _ in trainer.steps():
            break
        assert trainer.model is not None
    assert sorted(masa.load_run(config.run.dir).checkpoints) == [1]
    again = MASATrainer(config)
    assert len(list(again.steps(2, resume=True))) == 2
    again.close()
    assert MASATrainer(config).train(resume=True)["steps"] == 4
    assert masa.load_run(config.run.dir).metrics.index.tolist() == [0, 1, 2, 3, 4]


def test_a_step_count_below_one_is_refused(tiny: MakeConfig) -> None:
    with pytest.raises(ValueError, match="n: found 0, allowed: at least 1"):
        MASATrainer(tiny()).steps(0)


def test_a_program_that_ends_between_two_steps_ends_cleanly(tmp_path: Path, tiny: MakeConfig) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(masa.config.dump_config(tiny()))
    program = "import sys, masa; trainer = masa.MASATrainer(sys.argv[1]); print(len(list(trainer.steps(1))))"
    done = subprocess.run([sys.executable, "-c", program, str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.endswith("1\n")
    assert sorted(masa.load_run(tmp_path / "run").checkpoints) == [1]


def test_a_policy_answers_before_and_after_its_run(tiny: MakeConfig) -> None:
    problems = [
        masa.Problem("one", "Find the sum: a=1, b=2.", "3"),
        masa.Problem("two", "Find the sum: a=2, b=2.", "4"),
    ]
    with MASATrainer(tiny(**{"run.steps": 1, "rollout.max_meta_tokens": 96})) as trainer:
        before = trainer.predict(problems)
        assert list(before["problem"]) == ["one", "one", "two", "two"]
        assert before["pass_rate"].dropna().between(0, 1).all()
        assert before["parsed"].any()
        greedy = trainer.solve(problems, num_solutions=2, temperature=0)
        assert greedy["response"][0] == greedy["response"][1]
        assert set(greedy["status"]) <= {"correct", "incorrect"}
        start = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        first = trainer.evaluate()
        trainer.train()
        measured = trainer.metrics
        assert first["eval/accuracy"] == measured["eval/accuracy"][0]
        assert trainer.evaluate()["eval/accuracy"] == measured["eval/accuracy"][1]
        trained = trainer.model.state_dict()
        assert any(not torch.equal(start[name], trained[name]) for name in start)
        assert "eval/pass_rate_error" not in trainer.evaluate(problems, num_metas=0)


@pytest.mark.parametrize("asked", [[], ["a text", {"problem": "a", "answer": "1"}], [3]])
def test_what_is_no_problem_is_refused(tiny: MakeConfig, asked: Any) -> None:
    with MASATrainer(tiny()) as trainer, pytest.raises((TypeError, ValueError), match=r"problems: found"):
        trainer.predict(asked)


def test_a_saved_policy_loads_in_transformers(tiny: MakeConfig, tmp_path: Path) -> None:
    model = load_embedded_policy()
    trainer = MASATrainer(tiny(), model=model)
    assert trainer.model is model
    saved = trainer.save(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(saved).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(saved).vocab_size == trainer.tokenizer.vocab_size


def test_a_cell_that_saves_can_be_run_again(tiny: MakeConfig, tmp_path: Path) -> None:
    model = load_embedded_policy()
    trainer = MASATrainer(tiny(), model=model)
    folder = tmp_path / "saved"
    trainer.save(folder)
    # An earlier policy lay in more files; what is somebody else's stays.
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += 1.0
    trainer.save(folder)
    names = {one.name for one in folder.iterdir()}
    assert "notes.txt" in names
    assert not [name for name in names if name.startswith((".saving", "model-", "model.safetensors.index"))]
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


class FakeHub:
    """Stands in for the hub: keeps what is uploaded."""

    uploads: dict[str, Any]

    def __init__(self, token: str | None) -> None:
        FakeHub.uploads = {"token": token}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        FakeHub.uploads |= {"private": private, "exist_ok": exist_ok}
        return type("Url", (), {"repo_id": f"me/{repo_id}"})

    def model_info(self, repo_id: str) -> Any:
        return type("Info", (), {"private": "public" not in repo_id})

    def upload_folder(self, repo_id: str, *, folder_path: str, commit_message: str) -> Any:
        if "refuse" in repo_id:
            raise PermissionError("you may not")
        FakeHub.uploads[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}/commit/1"})


def test_a_policy_is_pushed_to_the_hub_in_private(tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    trainer = MASATrainer(tiny())
    assert trainer.push_to_hub("policy") == "https://hub/me/policy/commit/1"
    assert FakeHub.uploads["private"] is True
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(FakeHub.uploads["me/policy"])
    with pytest.raises(HubPushError, match=r"refuse was not uploaded: PermissionError: you may not.*save\(folder\)"):
        trainer.push_to_hub("refuse")
    with pytest.raises(HubPushError, match="me/public is public, and a private repository was asked for"):
        trainer.push_to_hub("public")
    assert "README.md" not in FakeHub.uploads.get("me/policy", [])
    trainer.train()
    trainer.push_to_hub("public", private=False)
    assert {"README.md", "model.safetensors"} <= set(FakeHub.uploads["me/public"])


def test_a_run_is_read_as_tables(tiny: MakeConfig) -> None:
    config = tiny(**{"run.steps": 2, "evaluation.every": 1})
    MASATrainer(config).train()
    run = masa.load_run(config.run.dir)
    assert run.config == config
    assert run.metrics["rollout/solution_length"].notna().tolist() == [False, True, True]
    assert {"solution", "meta"} == set(run.samples["path"])
    assert run.samples.loc[run.samples["path"] == "meta", "reward/r_meta"].notna().all()
    assert len(run.predictions) == 2 * 2
    assert len(run.held_out) == 3 * 2
    accuracy = run.evaluations.query("metric == 'accuracy'")
    assert accuracy["evaluation"].tolist() == ["step-0", "step-1", "step-2"]
    assert run.summary is not None
    assert run.summary["steps"] == 2
    assert "2 steps, finished" in repr(run)
    assert "accuracy_after" in run._repr_html_()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(NoRunError, match=r"holds no run, found notes.txt; allowed: a run directory"):
        masa.load_run(tmp_path)
    with pytest.raises(NoRunError, match="is no folder"):
        masa.load_run(tmp_path / "elsewhere")


def test_evaluate_and_report_are_functions_and_modules(tiny: MakeConfig, tmp_path: Path) -> None:
    config = tiny(**{"run.steps": 1})
    MASATrainer(config).train()
    results = masa.evaluate(
        run=config.run.dir,
        benchmarks=["embedded"],
        overrides={"rewards.verifier_workers": 1},
        samples=1,
        metas=1,
        max_tokens=32,
        max_meta_tokens=32,
        limit=2,
        resamples=20,
    )
    value = results["benchmarks"]["embedded"]["metrics"]["pass@1"]["value"]
    run = masa.load_run(config.run.dir)
    row = run.evaluations.query("benchmark == 'embedded' and metric == 'pass@1'").iloc[0]
    assert row["evaluation"] == "step-1"
    assert row["value"] == value
    report = masa.report([config.run.dir], tmp_path / "report.html", title="One run")
    assert report.html.read_text().count("One run") >= 1
    assert report._repr_html_().startswith("<iframe srcdoc=")
    from masa.evaluate import main as evaluate_main
    from masa.report import main as report_main

    assert report_main([config.run.dir, "--out", str(tmp_path / "again.html")]) == 0
    assert evaluate_main(["--list"]) == 0
    assert callable(masa.evaluate)
    with pytest.raises(TypeError, match=r"evaluate: found 'smaples', allowed: .*samples"):
        masa.evaluate("embedded", "embedded", smaples=3)
