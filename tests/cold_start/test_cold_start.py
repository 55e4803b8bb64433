"""A policy whose meta-predictions cannot be read is taught their form, alone or before a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from held_folders import held_by_another
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from masa import MASATrainer, load_config
from masa.cold_start.command import EXIT_BAD_INPUT, main
from masa.cold_start.examples import end_token
from masa.cold_start.records import outcome_line
from masa.cold_start.solved import SolvedProblem
from masa.config import ConfigError
from masa.report import main as report
from masa.session import Session
from masa.training_step import TrainingStep

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
# In the words of the embedded policy, which knows few.
THOUGHTS = Path(__file__).with_name("embedded_thoughts.txt")
SMALL = [
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=4",
    "problems.limit=32",
    "problems.eval_limit=2",
    "evaluation.every=0",
    "evaluation.num_samples=1",
    "evaluation.num_metas=1",
    "rewards.verifier_workers=1",
    "rollout.check_at_start=false",
    "optimizer.warmup_steps=0",
    "tracking.figures=false",
    "run.steps=1",
    "run.threads=1",
    "cold_start.problems=12",
    "cold_start.held_out=4",
    "cold_start.batch_size=4",
    "cold_start.num_metas=1",
    "cold_start.learning_rate=5e-4",
    "cold_start.check_every=5",
    "cold_start.checkpoint_every=5",
    "cold_start.max_updates=40",
    "cold_start.max_notions=1",
    "cold_start.response=<meta>{{ thoughts }}</meta>{{ prediction }}",
    f"cold_start.thoughts={THOUGHTS}",
]


@pytest.fixture(scope="module")
def unable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy after it was taught to end its metas behind the thoughts: none of them can be read."""
    from masa.model.loading import load_policy, load_tokenizer
    from masa.preflight import prepare

    config = load_config(QUICKSTART, SMALL)
    prepared = prepare(config)
    model, tokenizer = load_policy(config.model), load_tokenizer(config.model)
    ending = [*tokenizer.encode("<meta>To solve: small mixed.</meta>", add_special_tokens=False)]
    ending.append(int(tokenizer.eos_token_id))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    for problem in prepared.train[:15]:
        prompt = prepared.builder.prompt_ids(problem, "meta")
        ids = torch.tensor([[*prompt, *ending]])
        labels = torch.tensor([[-100] * len(prompt) + ending])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("unable")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def untimed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in found]


def command(policy: Path, out: Path, *more: str) -> int:
    return main(["--config", str(QUICKSTART), *SMALL, f"model.path={policy}", "--out", str(out), *more])


@pytest.fixture(scope="module")
def taught(unable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command made of it."""
    out = tmp_path_factory.mktemp("taught") / "out"
    assert command(unable, out) == 0
    return out


def test_held_out_metas_can_be_read_afterwards_and_solutions_are_measured_before_and_after(taught: Path) -> None:
    summary = json.loads((taught / "summary.json").read_text())
    assert summary["parsed_before"] == 0.0
    assert summary["parsed_after"] >= 0.9
    assert summary["reached"] is True
    assert 0 < summary["updates"] <= 40
    assert 0 <= summary["correctness_before"] <= 1
    assert 0 <= summary["correctness_after"] <= 1
    assert summary["metas_cloned"] == 8
    found = rows(taught)
    assert [row["step"] for row in found] == list(range(0, summary["updates"] + 1, 5))
    assert found[-1]["control/cold_start_loss"] < found[1]["control/cold_start_loss"]
    assert "eval/accuracy" in found[0]
    assert "eval/accuracy" in found[-1]
    assert [sample["reward"]["parsed"] for sample in rows(taught, "samples.jsonl")[:4]] == [0.0] * 4
    assert summary["accuracy_before"] == found[0]["eval/accuracy"]
    assert summary["accuracy_after"] == found[-1]["eval/accuracy"]


def test_a_cold_start_that_cost_accuracy_says_so() -> None:
    # SmolLM2 with 8 solutions a problem and few of them correct: what it was told of was the parse rate alone.
    summary = {
        "updates": 24,
        "parsed_before": 0.0,
        "parsed_after": 0.94,
        "until_parsed": 0.9,
        "reached": True,
        "correctness_before": 0.234,
        "correctness_after": 0.25,
        "accuracy_before": 0.255,
        "accuracy_after": 0.104,
    }
    line = outcome_line(summary)
    assert "those of problems.eval in 25.5% and 10.4%" in line
    assert "Cloning cost accuracy" in line
    assert "Cloning cost accuracy" not in outcome_line({**summary, "accuracy_after": 0.24})
    # A run with a cold start evaluates only before it; its own first evaluation is the one after it.
    del summary["accuracy_after"]
    assert "problems.eval" not in outcome_line(summary)
    assert "max_updates" in outcome_line({**summary, "reached": False})


def test_held_out_problems_are_never_cloned(taught: Path) -> None:
    from masa.cold_start.phase import choose_problems
    from masa.preflight import prepare

    config = load_config(QUICKSTART, SMALL)
    chosen = choose_problems(prepare(config).train, config)
    assert len(chosen.held_out) == 4
    assert not {one.id for one in chosen.held_out} & {one.id for one in chosen.cloned}
    assert {row["problem_id"] for row in rows(taught, "solved.jsonl")} == {one.id for one in chosen.all}


def test_the_folder_is_a_model_as_transformers_loads_it(taught: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(taught, local_files_only=True)
    assert AutoTokenizer.from_pretrained(taught, local_files_only=True).encode("{")
    newest = max((taught / "checkpoints").glob("step_*"))
    for name, tensor in load_file(newest / "model.safetensors").items():
        assert torch.equal(model.get_parameter(name), tensor)


def test_a_cold_start_that_was_stopped_goes_on_as_if_it_had_not_been(
    taught: Path, unable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    calls = iter(range(100))
    # While problems are solved, and then behind the first measuring.
    for stop_at in (1, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Session, "asked_to_stop", lambda _, at=stop_at: next(calls) >= at)
            assert command(unable, out, *(["--resume"] if out.exists() else [])) == 0
        assert not (out / "summary.json").exists()
    assert command(unable, out) == EXIT_BAD_INPUT
    assert command(unable, out, "--resume", "cold_start.learning_rate=1e-3") == EXIT_BAD_INPUT
    assert command(unable, out, "--resume") == 0
    assert untimed(rows(out)) == untimed(rows(taught))
    assert (out / "model.safetensors").read_bytes() == (taught / "model.safetensors").read_bytes()


def test_two_cold_starts_do_not_write_to_one_folder(
    unable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_by_another(tmp_path) as holder:
        assert command(unable, tmp_path, "--resume") == EXIT_BAD_INPUT
        assert f"is in use by process {holder.pid} on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_with_a_cold_start_equals_a_run_from_the_folder_of_one(
    taught: Path, unable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, *options: str) -> Path:
        config = load_config(QUICKSTART, [*SMALL, f"run.dir={tmp_path / name}", *options])
        MASATrainer(config).train()
        return tmp_path / name

    within = run("within", f"model.path={unable}", "cold_start.enabled=true")
    after = run("after", f"model.path={taught}")
    assert untimed(rows(within)[1:]) == untimed(rows(after)[1:])
    # An optimiser that remembered the cold start would have taken another step.
    one, other = (folder / "checkpoints" / "step_000001" / "model.safetensors" for folder in (within, after))
    assert one.read_bytes() == other.read_bytes()
    first = rows(within)[0]
    assert first["control/cold_start_parsed_before"] == 0.0
    assert first["control/cold_start_parsed"] >= 0.9
    assert first["eval/accuracy"] == rows(after)[0]["eval/accuracy"]
    assert "of the held-out metas 0% could be read before" in capsys.readouterr().out

    page = tmp_path / "report.html"
    assert report([str(within), str(after), "--out", str(page)]) == 0
    text = page.read_text()
    assert "Cold starts" in text
    assert text.count("0% → ") == 2


def test_a_run_that_was_stopped_in_its_cold_start_goes_on_there(
    unable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"model.path={unable}", f"run.dir={tmp_path / 'run'}", "cold_start.enabled=true", "problems.eval=null"]
    config = load_config(QUICKSTART, [*SMALL, *options, "cold_start.max_updates=5"])
    with monkeypatch.context() as patch:
        patch.setattr(Session, "asked_to_stop", lambda _: True)
        assert MASATrainer(config).train() == {"steps": 0, "stopped_by": "SIGTERM"}
    assert len(rows(tmp_path / "run" / "cold_start", "solved.jsonl")) == 4
    assert MASATrainer(config).train(resume=True)["steps"] == 1
    assert rows(tmp_path / "run")[0]["control/cold_start_updates"] == 5.0


@pytest.mark.slow
@pytest.mark.parametrize("contents", ["all", "model"])
def test_a_run_that_was_killed_behind_its_cold_start_goes_on_with_the_weights_of_it(
    contents: str, unable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(
        QUICKSTART,
        [
            *SMALL,
            f"model.path={unable}",
            f"run.dir={tmp_path / 'run'}",
            f"checkpoint.contents={contents}",
            "cold_start.enabled=true",
            "cold_start.max_updates=5",
            "problems.eval=null",
            "optimizer.learning_rate=1e-12",
        ],
    )

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "take", die)
        with pytest.raises(KeyboardInterrupt):
            MASATrainer(config).train()
    cold = load_file(tmp_path / "run" / "cold_start" / "model.safetensors")
    MASATrainer(config).train(resume=True)
    trained = load_file(tmp_path / "run" / "checkpoints" / "step_000001" / "model.safetensors")
    for name, tensor in cold.items():
        torch.testing.assert_close(trained[name], tensor, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cold_start.problems=8", "cold_start.held_out=8"], "held_out is 8, allowed is less than problems"),
        (["algorithm.meta=false"], "algorithm.meta is false"),
        (["cold_start.problems=64"], "cold_start.problems: found 64, allowed: at most 32"),
        (["cold_start.thoughts=/nowhere.txt"], "cold_start.thoughts: '/nowhere.txt' cannot be read"),
        (["cold_start.response={{ thought }}"], "cold_start.response: 'thought' is undefined"),
        (["cold_start.response={{ thoughts }}"], "does not hold {{ prediction }}"),
        (["rollout.max_meta_tokens=4"], "rollout.max_meta_tokens: found 4"),
    ],
)
def test_a_cold_start_that_cannot_work_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MASATrainer(load_config(QUICKSTART, [*SMALL, "cold_start.enabled=true", *options])).cold_start(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"cold_start\.enabled: found False"):
        MASATrainer(load_config(QUICKSTART, SMALL)).cold_start(tmp_path / "out")


def test_a_written_response_ends_with_a_token_that_ends_responses_and_not_with_that_of_a_stop_text() -> None:
    def solved(**ends: int) -> SolvedProblem:
        counts = {int(token.removeprefix("t")): count for token, count in ends.items()}
        return SolvedProblem("p", 4, 20, (), (), None, counts, 4, 8, 0, 100)

    assert end_token([solved(t40=6, t5=1), solved(t4=1, t5=1)], [4, 5], 4) == 5
    assert end_token([solved(t40=6)], [4, 5], 5) == 5
    assert end_token([solved(t40=6)], [4, 5], 40) == 4
