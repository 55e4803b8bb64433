"""A mistake in a config or a data file: one clear message and exit code 2, before any model is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from masa import MASATrainer, Problem, load_config, train
from masa.config import ConfigError, dump_config
from masa.distributed.processes import require_precise_updates
from masa.embedded import load_embedded_policy
from masa.problems.errors import ProblemDataError
from masa.tracking.opening import open_directory
from masa.tracking.run_directory import RunDirectory

QUICKSTART = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
GOOD_ROWS = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(32)]


@pytest.fixture(autouse=True)
def _no_model_may_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded before the mistake was told")

    monkeypatch.setattr("masa.session.load_policy", refuse)


def _message(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, config: str = QUICKSTART) -> str:
    code = train.main(["--config", config, f"run.dir={tmp_path / 'run'}", *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("masa: ")
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    return error


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("algorithm.num_solution=8", ["algorithm.num_solution", "algorithm.num_solutions"]),
        ("optimiser.learning_rate=1", ["optimiser", "optimizer"]),
        ("run.seed=zero", ["run.seed", "'zero'", "whole number"]),
        ("algorithm.num_problems=-4", ["algorithm.num_problems", "-4", "at least 1"]),
        ("algorithm.num_problems=100000", ["algorithm.num_problems", "100000", "at most"]),
        ("rollout.engine=tensorrt", ["rollout.engine", "'tensorrt'", "'transformers'"]),
        ("algorithm.dual_clip=1.1", ["dual_clip", "1.1"]),
        ("problems.train=missing.jsonl", ["missing.jsonl"]),
        ("problems.train=problems.docx", ["problems.docx", ".parquet"]),
        ("problems.train=embedded:trian", ["embedded:trian", "embedded:train"]),
        ("model.path=./no/such/model", ["model.path", "./no/such/model", "hub id"]),
        ("prompts.solution=Solve it", ["Solve it", "{{ problem }}"]),
        ("prompts.solution='{{ problm }}'", ["problm", "problem"]),
        ("prompts.meta='{{ problem'", ["meta template", "line 1"]),
        ("prompts.max_tokens=1", ["prompts.max_tokens", "1"]),
        ("problems.verifier=maths", ["maths", "math"]),
        ("problems.verifier=no_such_module:judge", ["no_such_module:judge"]),
    ],
)
def test_a_mistake_in_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, parts: list[str]
) -> None:
    message = _message(tmp_path, capsys, override)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["no such configuration file"]),
        ("", ["the file is empty"]),
        ("- 1\n- 2\n", ["a list", "a mapping"]),
        ("run: {seed: 1\n", ["line", "not valid YAML"]),
        ("run:\n  sed: 1\n", ["run.sed", "run.seed"]),
    ],
)
def test_a_mistake_in_the_configuration_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, parts: list[str]
) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    message = _message(tmp_path, capsys, config=str(path))
    assert "mine.yaml" in message
    for part in parts:
        assert part in message


def _jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("empty.jsonl", b"", ["empty.jsonl", "empty"]),
        ("torn.jsonl", _jsonl(GOOD_ROWS) + b'{"problem": "What', ["torn.jsonl", "32"]),
        ("noanswer.jsonl", _jsonl([*GOOD_ROWS, {"problem": "What is 1?", "answer": ""}]), ["noanswer.jsonl", "row 32"]),
        ("nostatement.jsonl", _jsonl([{"problem": " ", "answer": "1"}, *GOOD_ROWS]), ["nostatement.jsonl", "row 0"]),
        ("columns.jsonl", _jsonl([{"text": "What is 1?", "label": "1"}]), ["columns.jsonl", "text", "label"]),
        ("number.json", b"17", ["number.json"]),
        ("torn.parquet", b"PAR1\x00\x01", ["torn.parquet"]),
        ("binary.csv", bytes(range(256)), ["binary.csv"]),
        ("few.jsonl", _jsonl(GOOD_ROWS[:3]), ["algorithm.num_problems", "at most 3"]),
    ],
)
def test_a_mistake_in_a_data_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, parts: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = _message(tmp_path, capsys, f"problems.train={path}")
    for part in parts:
        assert part in message


def test_an_existing_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("run: {seed: 0}\n")
    assert "--resume" in _message(tmp_path, capsys)


@pytest.mark.parametrize("order", [("run.seed=3", "--resume"), ("--resume", "run.seed=3")])
def test_a_run_is_not_resumed_with_another_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: tuple[str, str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("run: {seed: 5}\n")
    message = _message(tmp_path, capsys, *order)
    assert "run.seed: the run has 5, found 3" in message
    # What differs comes before the long list of what may.
    assert message.index("run.seed: the run has 5") < message.index("Allowed to change: run.steps")


def test_the_process_exits_with_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "masa.train", "--config", QUICKSTART, "run.sede=1"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 2
    assert "run.seed" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_run_that_lost_its_servers_may_be_resumed_with_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("run: {seed: 5}\n")
    others = ("rollout.servers=[http://127.0.0.1:9]", "rollout.server_wait=600")
    message = _message(tmp_path, capsys, *others, "--resume")
    assert "run.seed: the run has 5, found 0" in message
    assert "rollout.servers: the run has" not in message
    assert "rollout.server_wait: the run has" not in message


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["rollout.async_steps=1"], "set algorithm.tis_cap"),
        (["problems.verifier=no_such_module:f"], "No module named 'no_such_module'"),
        (["evaluation.benchmarks=[aime]"], "nearest: 'aime25'"),
        (["run.dir={folder}/file/run"], "is a file; choose another run.dir"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], part: str
) -> None:
    (tmp_path / "file").touch()
    filled = [override.format(folder=tmp_path) for override in overrides]
    for mode in ([], ["--dry-run"]):
        assert part in _message(tmp_path, capsys, *filled, *mode)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "which cannot be made" in _message(tmp_path, capsys, "run.dir=/proc/nowhere/run")


def test_a_resumed_run_may_be_cut_into_other_pieces_and_says_what_that_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(QUICKSTART, [f"run.dir={tmp_path / 'run'}"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump_config(config))
    changed = ["optimizer.micro_batch_tokens=1000", "run.threads=1"]
    # It gets past the comparison to a model that does not fit.
    message = _message(tmp_path, capsys, *changed, "model.lora.rank=2", "--resume")
    assert "model.lora.rank: the run has 0, found 2" in message
    changed_config = load_config(QUICKSTART, [f"run.dir={tmp_path / 'run'}", *changed])
    directory = RunDirectory(tmp_path / "run")
    with open_directory(changed_config, directory, 1, training_problems=0, notes=[], console=Console(), resume=True):
        said = capsys.readouterr().out
    assert "optimizer.micro_batch_tokens, run.threads changed" in said
    assert "differs from an uninterrupted one only by rounding" in said


def test_parameters_too_coarse_for_an_update_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _message(tmp_path, capsys, "model.dtype=bfloat16")
    assert "model.dtype: found bfloat16, allowed without DeepSpeed and LoRA: float32" in message
    coarse = load_config(None, ["model.dtype=bfloat16"]).model
    require_precise_updates(coarse, load_embedded_policy())
    require_precise_updates(load_config(None, ["model.dtype=bfloat16", "model.lora.rank=4"]).model)
    fine = load_config(None).model
    with pytest.raises(ConfigError, match="found bfloat16"):
        require_precise_updates(fine, load_embedded_policy().to(torch.bfloat16))


def test_more_experts_a_batch_than_there_can_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _message(tmp_path, capsys, "controls.expert.enabled=true", "problems.limit=100")
    assert "controls.expert.batch_size: found 128, allowed: at most 100" in message


@pytest.mark.parametrize("which", ["problems", "eval_problems"])
def test_problems_with_one_id_twice_are_refused(which: str) -> None:
    problems = [Problem(f"p{n % 40}", f"{n} + 1", str(n + 1)) for n in range(41)]
    with pytest.raises(ProblemDataError, match="1 ids occur more than once, such as 'p0'"):
        MASATrainer(load_config(QUICKSTART), **{which: problems})  # type: ignore[arg-type]


def test_rows_that_are_handed_in_are_read_like_those_of_a_file() -> None:
    rows = [{"problem": f"{n} + 1", "answer": str(n + 1)} for n in range(40)]
    trainer = MASATrainer(load_config(QUICKSTART), problems=rows, eval_problems=rows[:2])
    assert [(one.statement, one.answer) for one in trainer.prepared.train[:2]] == [("0 + 1", "1"), ("1 + 1", "2")]
    for bad in ({"problem": "", "answer": "1"}, 7):
        with pytest.raises(ProblemDataError, match="row 40"):
            MASATrainer(load_config(QUICKSTART), problems=[*rows, bad])  # type: ignore[list-item]


def test_an_option_is_not_guessed_from_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train.main(["--config", QUICKSTART, "--resum"])
