from __future__ import annotations

import importlib.metadata
import json
import math
import os
import signal
import struct
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from masa.config import load_config
from masa.tracking import jsonl
from masa.tracking.opening import open_directory
from masa.tracking.run_directory import RunDirectory, RunExistsError, RunFolderError
from masa.tracking.samples import Prediction, Sample


def sample(step: int, response: str = "answer") -> Sample:
    return Sample(step, "p", "solution", "prompt", response, {"correctness": 1.0}, "stop", "4")


def prediction(step: int) -> Prediction:
    return Prediction(step, "p", 0.5, (10, 12), (0.5, None), (11, None))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "runs" / "one")
    directory.create("run: {seed: 0}\n", resume=False)
    return directory


def write_steps(directory: RunDirectory, steps: int) -> None:
    for step in range(1, steps + 1):
        directory.append_samples([sample(step)])
        directory.append_predictions([prediction(step)])
        directory.append_metrics(step, {"reward/r_meta": step / 3})


def test_a_new_run_has_its_configuration_and_folders(directory: RunDirectory) -> None:
    assert directory.config.read_text() == "run: {seed: 0}\n"
    assert directory.checkpoints.is_dir()
    assert directory.figures.is_dir()


def test_a_second_run_in_the_same_place_is_refused_and_told_what_lies_there(directory: RunDirectory) -> None:
    write_steps(directory, 3)
    (directory.checkpoints / "step_2").mkdir()
    (directory.checkpoints / ".writing_step_3").mkdir()
    with pytest.raises(RunExistsError) as caught:
        directory.create("run: {seed: 1}\n", resume=False)
    message = str(caught.value)
    for part in (
        str(directory.path),
        "config.yaml",
        "metrics.jsonl with 3 rows",
        "1 checkpoint",
        "--resume",
        "run.dir",
    ):
        assert part in message
    assert directory.config.read_text() == "run: {seed: 0}\n"


def test_a_folder_with_only_foreign_files_takes_a_new_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert RunDirectory(tmp_path).create("a: 1\n", resume=False) is False
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resume_where_nothing_lies_begins_a_new_run(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "new").create("a: 1\n", resume=True) is False


def test_a_run_directory_under_a_file_is_refused_with_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file is a file; choose another run\.dir"):
        RunDirectory(tmp_path / "file" / "run").create("a: 1\n", resume=True)


def test_asking_whether_a_run_exists_touches_nothing(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "run").check(resume=False) is False
    assert list(tmp_path.iterdir()) == []


def test_a_changed_configuration_on_resume_keeps_the_earlier_ones(directory: RunDirectory) -> None:
    for text in ("run: {steps: 2}\n", "run: {steps: 2}\n", "run: {steps: 3}\n"):
        assert directory.create(text, resume=True) is True
    assert directory.config.read_text() == "run: {steps: 3}\n"
    kept = {path.name: path.read_text() for path in directory.path.glob("config.*.yaml")}
    assert kept == {"config.1.yaml": "run: {seed: 0}\n", "config.2.yaml": "run: {steps: 2}\n"}


def test_truncation_drops_later_steps_from_all_row_files(directory: RunDirectory) -> None:
    write_steps(directory, 5)
    directory.append_held_out([{"step": step, "problem": "p"} for step in range(1, 6)])
    dropped = directory.truncate_after(3)
    assert dropped == {"metrics.jsonl": 2, "samples.jsonl": 2, "predictions.jsonl": 2, "evaluation.jsonl": 2}
    for path in (directory.metrics, directory.samples, directory.predictions, directory.held_out):
        assert [row["step"] for row in jsonl.read_rows(path)] == [1, 2, 3]


def test_truncation_leaves_the_kept_bytes_as_they_were(directory: RunDirectory) -> None:
    write_steps(directory, 2)
    before = {path: path.read_bytes() for path in directory.path.glob("*.jsonl")}
    directory.append_metrics(3, {"reward/r_meta": 0.1})
    directory.truncate_after(2)
    assert {path: path.read_bytes() for path in directory.path.glob("*.jsonl")} == before


@pytest.mark.parametrize("keep", range(1, 30, 4))
def test_a_line_torn_at_any_byte_is_dropped_and_writing_goes_on(directory: RunDirectory, keep: int) -> None:
    directory.append_metrics(1, {"reward/r_meta": 0.25})
    whole = directory.metrics.read_bytes()
    directory.append_metrics(2, {"reward/r_meta": 0.5})
    directory.metrics.write_bytes(directory.metrics.read_bytes()[: len(whole) + keep])
    directory.truncate_after(7)
    assert directory.metrics.read_bytes() == whole
    directory.append_metrics(2, {"reward/r_meta": 0.5})
    assert [row["step"] for row in directory.read_metrics()] == [1, 2]


def test_a_line_torn_within_a_character_is_dropped(directory: RunDirectory) -> None:
    directory.append_samples([sample(1), sample(2, "é")])
    data = directory.samples.read_bytes()
    directory.samples.write_bytes(data[: data.index("é".encode()) + 1])
    directory.truncate_after(9)
    assert [row["step"] for row in jsonl.read_rows(directory.samples)] == [1]


def test_a_broken_line_in_the_middle_is_refused_with_file_and_line(directory: RunDirectory) -> None:
    directory.metrics.write_text('{"step": 1}\n{"step": 2\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        directory.truncate_after(3)


def test_a_row_without_a_step_is_refused(directory: RunDirectory) -> None:
    directory.metrics.write_text('{"reward/r_meta": 1}\n')
    with pytest.raises(ValueError, match="a row has step None, a whole number is needed"):
        directory.truncate_after(3)


def test_a_kill_before_the_replacement_leaves_the_old_file(directory: RunDirectory, monkeypatch) -> None:
    write_steps(directory, 3)
    before = directory.metrics.read_bytes()

    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        directory.truncate_after(1)
    assert directory.metrics.read_bytes() == before
    monkeypatch.undo()
    directory.truncate_after(1)
    assert [row["step"] for row in directory.read_metrics()] == [1]


def test_every_step_written_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from masa.tracking.run_directory import RunDirectory\n"
        f"run = RunDirectory({str(tmp_path / 'run')!r})\n"
        "run.create('a: 1', resume=False)\n"
        "for step in range(1, 4):\n"
        "    run.append_metrics(step, {'reward/r_meta': 0.1 * step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == -signal.SIGKILL
    rows = RunDirectory(tmp_path / "run").read_metrics()
    assert rows == [{"step": step, "reward/r_meta": 0.1 * step} for step in (1, 2, 3)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_bit_for_bit(value: float) -> None:
    back = json.loads(jsonl.dump({"x": value}))["x"]
    assert struct.pack("d", back) == struct.pack("d", value)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_reads_back_as_it_was_even_lone_surrogates(text: str) -> None:
    line = jsonl.dump({"text": text})
    assert b"\n" not in line
    assert json.loads(line)["text"] == text


def test_numbers_that_json_lacks_become_null(directory: RunDirectory) -> None:
    directory.append_metrics(1, {"policy/loss": math.nan, "policy/ratio": math.inf, "policy/kl": -math.inf})
    assert (
        directory.metrics.read_text() == '{"step": 1, "policy/loss": null, "policy/ratio": null, "policy/kl": null}\n'
    )


def test_numbers_of_numpy_and_torch_become_plain_numbers() -> None:
    value = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": torch.tensor(2.25),
        "d": np.array([1.0, np.nan]),
        "e": (True,),
    }
    assert json.loads(jsonl.dump(value)) == {"a": 0.5, "b": 3, "c": 2.25, "d": [1.0, None], "e": [True]}


def test_a_value_without_a_json_form_is_refused_by_type() -> None:
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        jsonl.dump({"x": {1, 2}})


def test_samples_and_predictions_are_written_with_the_documented_fields(directory: RunDirectory) -> None:
    directory.append_samples([sample(4)])
    directory.append_predictions([prediction(4)])
    assert jsonl.read_rows(directory.samples) == [
        {
            "step": 4,
            "problem": "p",
            "path": "solution",
            "prompt": "prompt",
            "response": "answer",
            "reward": {"correctness": 1.0},
            "finish_reason": "stop",
            "answer": "4",
        }
    ]
    assert jsonl.read_rows(directory.predictions) == [
        {
            "step": 4,
            "problem": "p",
            "pass_rate": 0.5,
            "correct_lengths": [10, 12],
            "predicted_pass_rate": [0.5, None],
            "predicted_length": [11, None],
            "wrong_lengths": [],
            "r_meta": None,
        }
    ]


def test_the_summary_is_one_json_object(directory: RunDirectory) -> None:
    directory.write_summary({"accuracy_after": 0.5, "r_length_last": None, "steps": 3})
    assert jsonl.read_object(directory.summary) == {"accuracy_after": 0.5, "r_length_last": None, "steps": 3}


def test_the_environment_names_versions_machine_and_command(directory: RunDirectory) -> None:
    directory.write_environment({"device": "cpu"})
    record = jsonl.read_object(directory.environment)
    assert (
        record["packages"]["torch"] == torch.__version__.split("+")[0]
        or record["packages"]["torch"] == torch.__version__
    )
    assert record["packages"]["masa-rl"] == importlib.metadata.version("masa-rl")
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["cpu_count"] >= 1
    assert record["device"] == "cpu"
    assert record["command"]
    assert record["earlier_starts"] == []


def test_a_resumed_run_keeps_the_environments_of_its_earlier_starts(directory: RunDirectory) -> None:
    for device in ("cpu", "cuda", "cpu"):
        directory.write_environment({"device": device})
    record = jsonl.read_object(directory.environment)
    assert [start["device"] for start in record["earlier_starts"]] == ["cpu", "cuda"]
    assert all("earlier_starts" not in start for start in record["earlier_starts"])


def test_what_a_run_says_of_its_problems_is_not_broken_in_a_log_file(tmp_path: Path) -> None:
    written = StringIO()
    note = "problems.train: 3 bad rows left out, the first is row [7]: " + "a long reason, " * 12
    config = load_config(None, {"run.dir": str(tmp_path / "run")})
    with open_directory(
        config,
        RunDirectory(tmp_path / "run"),
        3,
        training_problems=4,
        notes=[note],
        console=Console(file=written, width=80),
        resume=False,
    ):
        assert note in written.getvalue()
