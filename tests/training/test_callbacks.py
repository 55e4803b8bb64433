"""Callbacks, given in Python and named in a configuration: when they are called, and what they can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import QUICKSTART, SMALL
from two_processes import run_on_two_processes

from masa import Callback, Config, MASATrainer, load_config, train
from masa.config import ConfigError
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory

_TINY = (
    "algorithm.num_problems=2",
    "algorithm.num_solutions=2",
    "algorithm.num_metas=2",
    "problems.limit=16",
    "problems.eval_limit=2",
    "rollout.check_at_start=false",
    "rollout.max_solution_tokens=32",
    "rollout.max_meta_tokens=32",
    "tracking.figures=false",
)


def _tiny(folder: Path, *changes: str) -> Config:
    return load_config(QUICKSTART, [*SMALL, *_TINY, f"run.dir={folder}", *changes])


class Recorder(Callback):
    """Writes down each event with its step."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.found: dict[str, Any] = {}

    def on_run_begin(self, run: Any) -> None:
        self.events.append(("on_run_begin", run.step))
        self.found["model"] = run.model

    def on_step_begin(self, run: Any) -> None:
        self.events.append(("on_step_begin", run.step))

    def on_rollouts(self, run: Any) -> None:
        self.events.append(("on_rollouts", run.step))
        assert len(run.batch.rollouts) == 2 * len(run.batch.mine)

    def on_rewards(self, run: Any) -> None:
        self.events.append(("on_rewards", run.step))
        assert [group.problem.id for group in run.groups] == [problem.id for problem in run.batch.problems]

    def on_update(self, run: Any) -> None:
        self.events.append(("on_update", run.step))
        assert "policy/loss" in run.metrics

    def on_evaluate(self, run: Any) -> None:
        self.events.append(("on_evaluate", run.step))
        assert 0 <= run.evaluation["eval/accuracy"] <= 1
        assert len(run.evaluated) == 2

    def on_step_end(self, run: Any) -> None:
        self.events.append(("on_step_end", run.step))
        run.log("twice_the_step", 2 * run.step)

    def on_log(self, run: Any) -> None:
        self.events.append(("on_log", run.step))
        self.found["row"] = run.metrics

    def on_checkpoint(self, run: Any) -> None:
        self.events.append(("on_checkpoint", run.step))
        assert (run.checkpoint / "model.safetensors").is_file()

    def on_run_end(self, run: Any) -> None:
        self.events.append(("on_run_end", run.step))
        self.found["summary"] = run.summary


def test_events_come_in_their_order_and_what_is_logged_is_in_the_row(tmp_path: Path) -> None:
    recorder = Recorder()
    config = _tiny(tmp_path / "run", "run.steps=2", "evaluation.every=2", "checkpoint.every=0")
    summary = MASATrainer(config, callbacks=[recorder]).train()
    step = ["on_step_begin", "on_rollouts", "on_rewards", "on_update"]
    assert recorder.events == [
        ("on_run_begin", 0),
        ("on_evaluate", 0),
        ("on_log", 0),
        *[(name, 1) for name in (*step, "on_step_end", "on_log")],
        *[(name, 2) for name in (*step, "on_evaluate", "on_step_end", "on_log", "on_checkpoint", "on_run_end")],
    ]
    assert recorder.found["summary"] == summary
    last = RunDirectory(tmp_path / "run").read_metrics()[-1]
    assert last["callback/twice_the_step"] == 4
    assert last == jsonl.plain({"step": 2, **recorder.found["row"]})


class StopsAndSaves(Callback):
    """Saves after ``save`` and ends the run after ``stop``."""

    def __init__(self, save: int, stop: int) -> None:
        self.save, self.stop = save, stop

    def on_rewards(self, run: Any) -> None:
        if run.step == self.save:
            run.save()
        if run.step == self.stop:
            run.stop("that will do")


def test_a_callback_saves_and_stops_and_the_run_goes_on_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _tiny(tmp_path / "run", "run.steps=5", "checkpoint.every=0", "checkpoint.best_metric=null")
    summary = MASATrainer(config, callbacks=[StopsAndSaves(1, 3)]).train()
    assert summary["steps"] == 3
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["step_000001", "step_000003"]
    assert "Stopped after step 3: that will do" in capsys.readouterr().out
    assert MASATrainer(config).train(resume=True)["steps"] == 5


def test_the_end_of_a_failed_run_is_told_to_callbacks_with_its_error(tmp_path: Path) -> None:
    class Fails(Callback):
        ended_with: BaseException | None = None

        def on_update(self, run: Any) -> None:
            raise LookupError("no such value")

        def on_run_end(self, run: Any) -> None:
            self.ended_with = run.error
            assert run.summary is None

    failing = Fails()
    with pytest.raises(LookupError, match="no such value"):
        MASATrainer(_tiny(tmp_path / "run", "run.steps=2"), callbacks=[failing]).train()
    assert isinstance(failing.ended_with, LookupError)


_MODULE = """
from masa import Callback

class Logs(Callback):
    def __init__(self, value: float = 0.5):
        self.value = value

    def on_step_end(self, run):
        run.log("constant", self.value)

class Raises(Callback):
    def __init__(self):
        raise OSError("no such file")

ready = Logs(3.0)
"""


def test_callbacks_are_named_in_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_callbacks.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "run"
    named = "run.callbacks=[{path: 'own_callbacks:Logs', arguments: {value: 0.25}}]"
    options = [*SMALL, *_TINY, "run.steps=1", f"run.dir={folder}"]
    assert train.main(["--config", str(QUICKSTART), *options, named]) == 0
    assert RunDirectory(folder).read_metrics()[-1]["callback/constant"] == 0.25
    # A resumed run may have others, and an object is as good as a class.
    longer = [*options, "run.steps=2", "run.callbacks=['own_callbacks:ready']"]
    assert train.main(["--config", str(QUICKSTART), *longer, "--resume"]) == 0
    assert RunDirectory(folder).read_metrics()[-1]["callback/constant"] == 3.0


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nowhere_at_all:Logs", r"run.callbacks\[0\].path: 'nowhere_at_all:Logs' cannot be imported"),
        ("own_callbacks", r"run.callbacks\[0\].path: found 'own_callbacks', allowed: module:name"),
        ("own_callbacks:Raises", r"run.callbacks\[0\]: own_callbacks:Raises cannot be made: OSError: no such file"),
        ("json:dumps", r"run.callbacks\[0\]: json:dumps cannot be made"),
        ("json:decoder", r"run.callbacks\[0\] is a module, an object is needed"),
    ],
)
@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
def test_a_name_that_is_no_callback_is_refused_before_a_model_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    written: str,
    message: str,
    dry: bool,
) -> None:
    (tmp_path / "own_callbacks.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("masa.session.load_policy", lambda *_: pytest.fail("the model was loaded"))
    options = ["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}", f"run.callbacks=['{written}']"]
    assert train.main([*options, *(["--dry-run"] if dry else [])]) == 2
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(capsys.readouterr().err)


class Misspelt:
    def on_step_ended(self, run: Any) -> None:
        raise AssertionError


class TooMany:
    def on_step_end(self, run: Any, metrics: Any) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([Misspelt()], r"callbacks\[0\] has a method on_step_ended, which no event calls; did you mean on_step_end\?"),
        ([Recorder(), TooMany()], r"callbacks\[1\]\.on_step_end cannot be called"),
        ([Recorder], r"callbacks\[0\] is the class Recorder, .*: Recorder\(\)"),
        ([3], r"callbacks\[0\] is 3 \(int\)"),
        (Recorder(), "callbacks is .*, a list is needed"),
    ],
)
def test_an_object_that_is_no_callback_is_refused(small_config: Config, callbacks: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        MASATrainer(small_config, callbacks=callbacks)


_PROGRAM = """
import os, sys
from masa import Callback, MASATrainer, load_config

class SecondProcessStops(Callback):
    def on_step_end(self, run):
        if os.environ["RANK"] == "1" and run.step == 2:
            run.stop("the second process has seen enough")

class Counts(Callback):
    steps = 0
    def on_step_end(self, run):
        self.steps += 1
    def on_run_end(self, run):
        assert self.steps == 2, self.steps

MASATrainer(load_config(sys.argv[1], sys.argv[2:]), callbacks=[SecondProcessStops(), Counts()]).train()
"""


def test_a_stop_that_one_process_asks_for_ends_all_after_the_same_step(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    folder = tmp_path / "run"
    options = [*SMALL, *_TINY, "run.steps=4", "problems.eval=null", f"run.dir={folder}"]
    run_on_two_processes(program, str(QUICKSTART), *options, timeout=200)
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert (folder / "checkpoints" / "step_000002").is_dir()
