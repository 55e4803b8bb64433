"""Trackers of accelerate beside W&B: what reaches them, what is refused before a run, and that none ends a run."""

from __future__ import annotations

import json
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from masa import MASATrainer, load_config
from masa.config import ConfigError
from masa.config.tracking import TrackingSection
from masa.tracking.loggers import CompositeLogger, make_logger
from masa.tracking.samples import Sample
from masa.tracking.trackers import choice
from masa.tracking.trackers.tracked import TrackedRun
from masa.train import main

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
CONFIG = {"run": {"seed": 3, "name": None}, "algorithm": {"meta": True}, "rollout": {"servers": ["a", "b"]}}
SAMPLE = Sample(
    step=2,
    problem="p1",
    path="meta",
    prompt="one\ntwo",
    response="three",
    reward={"r_meta": 0.5},
    finish_reason="stop",
    answer=7,
)


class Recorder:
    """Something of which every method may be called, and is written down."""

    def __init__(self, **attributes: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values, **named: self.calls.append((name, *values, named))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def _start(folder: Path, name: str, *, step: int = 0, **arguments: Any) -> tuple[CompositeLogger, list[str]]:
    warnings: list[str] = []
    given = {name: arguments} if arguments else {}
    run = TrackedRun(folder, "masa", "run-1", CONFIG, warn=warnings.append, step=step, arguments=given)
    return make_logger(TrackingSection(trackers=[name]), run), warnings


def _picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "overview.png"
    Image.new("RGBA", (6, 4), (255, 0, 0, 255)).save(path)
    return path


def _use_everything(logger: CompositeLogger, folder: Path) -> None:
    logger.log(2, {"eval/pass@8": 0.5})
    logger.log_samples(2, [SAMPLE])
    logger.log_figures(5, [_picture(folder)])
    logger.finish()
    logger.finish()


def test_tensorboard_gets_metrics_texts_figures_and_the_configuration(monkeypatch, tmp_path: Path) -> None:
    import torch.utils

    made: list[tuple[Any, Any]] = []
    writer = Recorder()
    fake = _module(
        monkeypatch,
        "torch.utils.tensorboard",
        SummaryWriter=lambda folder, **named: made.append((folder, named)) or writer,  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(torch.utils, "tensorboard", fake, raising=False)
    logger, warnings = _start(tmp_path, "tensorboard", step=4, flush_secs=9)
    _use_everything(logger, tmp_path)
    assert warnings == []
    # Steps that a resumed run takes again replace the earlier ones.
    assert made == [(str(tmp_path / "tensorboard"), {"purge_step": 5, "flush_secs": 9})]
    assert writer.of("add_hparams")[0][0] == {
        "run.seed": 3, "run.name": "None", "algorithm.meta": True, "rollout.servers": "['a', 'b']",
    }  # fmt: skip
    assert writer.of("add_scalar") == [("eval/pass@8", 0.5, {"global_step": 2})]
    text = writer.of("add_text")[0]
    assert text[0] == "samples"
    assert "    one\n    two\n    \n    three" in text[1]
    name, pixels, named = writer.of("add_images")[0]
    assert (name, pixels.shape, named["dataformats"]) == ("figures/overview", (1, 4, 6, 3), "NHWC")
    assert len(writer.of("close")) == 1


def test_trackio_gets_the_run_by_name_so_that_a_resumed_run_continues_it(monkeypatch, tmp_path: Path) -> None:
    run = Recorder()
    asked: list[Any] = []
    _module(monkeypatch, "trackio", init=lambda **named: asked.append(named) or run)  # type: ignore[func-returns-value]
    logger, warnings = _start(tmp_path, "trackio", space_id="me/runs")
    _use_everything(logger, tmp_path)
    assert warnings == []
    assert {name: asked[0][name] for name in ("project", "name", "resume", "space_id")} == {
        "project": "masa", "name": "run-1", "resume": "allow", "space_id": "me/runs",
    }  # fmt: skip
    assert asked[0]["config"]["run.seed"] == 3
    assert run.of("log") == [({"eval/pass@8": 0.5}, {"step": 2})]
    assert len(run.of("finish")) == 1


def test_mlflow_gets_allowed_names_and_files_and_a_resumed_run_continues(monkeypatch, tmp_path: Path) -> None:
    calls = Recorder()
    limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
    starts: list[Any] = []

    def start_run(**named: Any) -> Any:
        starts.append(named)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

    _module(
        monkeypatch,
        "mlflow",
        utils=types.SimpleNamespace(validation=limits),
        search_experiments=lambda **named: [],
        create_experiment=lambda **named: "1",
        start_run=start_run,
        **{name: getattr(calls, name) for name in ("log_params", "log_metrics", "log_artifact", "end_run")},
    )
    (tmp_path / "samples.jsonl").write_text("{}\n")
    for _ in range(2):
        logger, warnings = _start(tmp_path, "mlflow")
        _use_everything(logger, tmp_path)
        assert warnings == []
    assert [one["run_id"] for one in starts] == [None, "abc"]
    assert len(calls.of("log_params")) == 1
    assert calls.of("log_metrics")[0][0] == {"eval/pass_at_8": 0.5}
    sent = [Path(call[0]["local_path"]).name for call in calls.of("log_artifact")[:2]]
    assert sent == ["overview.png", "samples.jsonl"]


OWN = """
from accelerate.tracking import GeneralTracker

EVENTS = []

class Mine(GeneralTracker):
    name = "mine"
    requires_logging_directory = True

    def __init__(self, project, folder, colour="red", fails=False):
        super().__init__()
        self.fails = fails
        EVENTS.append(("init", project, folder, colour))

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        EVENTS.append(("config", values["run.steps"]))

    def log(self, values, step=None, **named):
        if self.fails:
            raise ConnectionError("gone")
        EVENTS.append(("log", step, "reward/r_meta" in values or step == 0))

    def log_table(self, name, columns=None, data=None, dataframe=None, step=None, **named):
        EVENTS.append((name, step, len(data)))

    def log_images(self, values, step=None, **named):
        EVENTS.append(("images", step, sorted(values)))

    def finish(self):
        EVENTS.append(("finish",))

class Bare:
    pass
"""
TINY = [
    "algorithm.num_problems=2", "algorithm.num_solutions=2", "algorithm.num_metas=2", "problems.limit=16",
    "problems.eval_limit=2", "rollout.check_at_start=false", "rollout.max_solution_tokens=48",
    "rollout.max_meta_tokens=40", "rewards.verifier_workers=1", "run.steps=2", "run.threads=1", "evaluation.every=0",
    "tracking.samples_to_trackers_every=2", "tracking.samples_per_step=1",
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_tracker.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_tracker", raising=False)
    import my_tracker

    return my_tracker


def test_a_run_hands_metrics_samples_and_figures_to_a_tracker_of_ones_own(own: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    changes = [*TINY, f"run.dir={folder}", 'tracking.trackers=["my_tracker:Mine"]', "tracking.project=p"]
    changes += ['tracking.arguments={"my_tracker:Mine": {"colour": "blue"}}', "tracking.figures=true"]
    MASATrainer(load_config(QUICKSTART, changes)).train()
    assert own.EVENTS[:2] == [("init", "p", str(folder), "blue"), ("config", 2)]
    assert [event for event in own.EVENTS if event[0] == "log"] == [("log", step, True) for step in range(3)]
    assert ("samples", 2, 2) in own.EVENTS
    assert [event[1] for event in own.EVENTS if event[0] == "samples"] == [2]
    assert own.EVENTS[-2][:2] == ("images", 2)
    assert "figures/overview" in own.EVENTS[-2][2]
    assert own.EVENTS[-1] == ("finish",)


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(own: Any, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "run"
    changes = [*TINY, f"run.dir={folder}", 'tracking.trackers=["my_tracker:Mine"]', "tracking.figures=false"]
    changes += ['tracking.arguments={"my_tracker:Mine": {"fails": true}}']
    MASATrainer(load_config(QUICKSTART, changes)).train()
    shown = capsys.readouterr().out
    assert shown.count("it is switched off from here on; the run continues") == 1
    assert "my_tracker:Mine: could not log step 0 (ConnectionError: gone)" in shown
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tracking.trackers=[tensorbord]"], "found 'tensorbord', allowed: wandb, tensorboard, trackio, mlflow"),
        (["tracking.trackers=[mlflow]"], "'mlflow' needs the package mlflow, which is not installed here: pip install"),
        (["tracking.trackers=[wandb]", "tracking.wandb.mode=disabled"], "names wandb, but wandb.mode is disabled"),
        (['tracking.trackers=["my_tracker:Bare"]'], "is the class Bare, allowed: a subclass of accelerate"),
        (['tracking.trackers=["my_tracker:None"]'], "cannot be imported"),
        (["tracking.arguments={trackio: {a: 1}}"], "arguments has 'trackio', allowed: the trackers of this run, none"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_tracker_that_cannot_be_had_is_refused_before_anything_is_loaded(
    own: Any, changes: list[str], message: str, dry: bool, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda package: None)
    arguments = ["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}", *changes, *(["--dry-run"] if dry else [])]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_real_wandb_takes_table_and_figures_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    warnings: list[str] = []
    said: list[str] = []
    run = TrackedRun(tmp_path, "masa", "run-1", CONFIG, warn=warnings.append, say=said.append)
    section = TrackingSection(trackers=["wandb"], wandb={"mode": "offline", "tags": ["t"], "group": "g"})
    logger = make_logger(section, run)
    logger.log(1, {"reward/r_meta": 0.5})
    logger.log_samples(1, [SAMPLE])
    logger.log_figures(1, [_picture(tmp_path)])
    logger.finish()
    assert warnings == []
    files = list(tmp_path.glob("wandb/offline-run-*/files/media/**/*.*"))
    assert sorted(path.suffix for path in files) == [".json", ".png"]
    table = json.loads(next(path for path in files if path.suffix == ".json").read_text())
    assert table["data"][0][:3] == [2, "p1", "meta"]
    assert "wandb sync" in said[0]


def test_own_trackers_are_checked_as_accelerate_makes_them(own: Any) -> None:
    with pytest.raises(ConfigError, match="found 'my_tracker:'"):
        choice.own_tracker("my_tracker:")
    assert choice.own_tracker("my_tracker:Mine") is own.Mine


def test_a_dry_run_for_another_machine_names_a_missing_tracker_as_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa import dry_run

    monkeypatch.setattr(choice, "find_spec", lambda package: None)
    config = load_config(overrides=["tracking.trackers=[trackio]"])
    (note,) = dry_run._missing_trackers(config, elsewhere=True)
    assert "'trackio' needs the package trackio" in note
    with pytest.raises(ConfigError, match="'trackio' needs the package"):
        dry_run._missing_trackers(config, elsewhere=False)
