from __future__ import annotations

import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from masa.config.tracking import TrackingSection, WandbSection
from masa.tracking.loggers import CompositeLogger, make_logger
from masa.tracking.samples import Sample
from masa.tracking.trackers.tracked import TrackedRun


class FakeRun:
    def __init__(self, log: list[Any], fail_in: str) -> None:
        self._log, self._fail_in = log, fail_in

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **named: Any) -> None:
            self._log.append((name, *values))
            if name == self._fail_in:
                raise ConnectionError("the network is gone\nsecond line")

        return call


class FakeWandb(types.ModuleType):
    """Stands in for wandb: records what is asked of it, and fails where told to."""

    def __init__(self, *, key: bool = True, fail_in: str = "", unreachable: bool = False) -> None:
        super().__init__("wandb")
        # accelerate looks for installed packages by their specs.
        self.__spec__ = ModuleSpec("wandb", None)
        self.calls: list[Any] = []
        self.modes: list[str] = []
        self.options: dict[str, Any] = {}
        self._key, self._fail_in, self._unreachable = key, fail_in, unreachable

    def Settings(self, **named: Any) -> Any:  # noqa: N802
        return types.SimpleNamespace(**named, finish_timeout=0)

    def login(self, *, prompt: bool) -> bool:
        assert prompt is False, "a run must never wait for someone to type a key"
        return self._key

    def init(self, *, mode: str, settings: Any, **options: Any) -> FakeRun:
        self.modes.append(mode)
        self.options = options
        if self._fail_in == "init" or (self._unreachable and mode == "online"):
            raise TimeoutError("no answer")
        return FakeRun(self.calls, self._fail_in)

    def Table(self, *, columns: list[str], data: list[list[Any]]) -> Any:  # noqa: N802
        return "table", columns, data

    def Image(self, path: str) -> Any:  # noqa: N802
        return "image", Path(path).name


def tracked(folder: Path, warnings: list[str], said: list[str] | None = None) -> TrackedRun:
    said = [] if said is None else said
    config = {"run": {"seed": 0, "name": "mine"}}
    return TrackedRun(folder, "masa", folder.name, config, warn=warnings.append, say=said.append)


def start(
    monkeypatch, folder: Path, wandb: FakeWandb, mode: Any, said: list[str] | None = None, **section: Any
) -> tuple[CompositeLogger, list[str]]:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    warnings: list[str] = []
    chosen = TrackingSection(wandb=WandbSection(mode=mode, **section))
    return make_logger(chosen, tracked(folder, warnings, said)), warnings


def test_a_run_with_a_key_is_online_and_warns_of_nothing(monkeypatch, tmp_path: Path) -> None:
    wandb = FakeWandb()
    logger, warnings = start(monkeypatch, tmp_path, wandb, "online")
    logger.log(3, {"reward/r_meta": 0.5})
    logger.finish()
    logger.finish()
    assert wandb.modes == ["online"]
    assert wandb.options["dir"] == str(tmp_path)
    assert wandb.calls[-2:] == [("log", {"step": 3, "reward/r_meta": 0.5}), ("finish",)]
    assert warnings == []


def test_without_a_key_metrics_stay_offline_with_one_warning(monkeypatch, tmp_path: Path) -> None:
    wandb = FakeWandb(key=False)
    _, warnings = start(monkeypatch, tmp_path, wandb, "online")
    assert wandb.modes == ["offline"]
    assert len(warnings) == 1
    assert "no API key" in warnings[0]


def test_an_unreachable_server_falls_back_to_offline(monkeypatch, tmp_path: Path) -> None:
    wandb = FakeWandb(unreachable=True)
    logger, warnings = start(monkeypatch, tmp_path, wandb, "online")
    logger.log(1, {})
    assert wandb.modes == ["online", "offline"]
    assert wandb.calls[-1] == ("log", {"step": 1})
    assert warnings == ["wandb: not reachable (TimeoutError: no answer); metrics are kept offline"]


@pytest.mark.parametrize("fail_in", ["init", "define_metric", "log", "finish"])
def test_a_failing_wandb_is_reported_once_and_then_left_alone(monkeypatch, tmp_path: Path, fail_in: str) -> None:
    wandb = FakeWandb(fail_in=fail_in)
    logger, warnings = start(monkeypatch, tmp_path, wandb, "offline")
    for step in range(3):
        logger.log(step, {"reward/r_meta": 0.5})
    logger.finish()
    assert len(warnings) == 1
    assert "it is switched off from here on; the run continues" in warnings[0]
    assert "\n" not in warnings[0]
    assert [call[0] for call in wandb.calls].count(fail_in) == (0 if fail_in == "init" else 1)


def test_a_missing_wandb_package_is_reported_and_the_run_goes_on(monkeypatch, tmp_path: Path) -> None:
    warnings: list[str] = []
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = make_logger(TrackingSection(trackers=["wandb"]), tracked(tmp_path, warnings))
    logger.log(1, {})
    assert len(warnings) == 1
    assert "could not start" in warnings[0]


def test_a_resumed_run_continues_the_same_wandb_run(monkeypatch, tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        wandb = FakeWandb()
        start(monkeypatch, tmp_path, wandb, "offline")
        ids.append(wandb.options["id"])
        assert wandb.options["resume"] == "allow"
    assert ids[0] == ids[1]
    assert ids[0]


def test_disabled_logging_imports_no_wandb_and_writes_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from masa.tracking.loggers import make_logger\n"
        "from masa.config.tracking import TrackingSection; from masa.tracking.trackers.tracked import TrackedRun\n"
        f"run = TrackedRun(Path({str(tmp_path)!r}), 'p', 'n', {{}}, warn=print)\n"
        "logger = make_logger(TrackingSection(), run)\n"
        "logger.log(1, {}); logger.finish(); assert 'wandb' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_real_wandb_keeps_an_offline_run_in_the_run_directory(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from masa.tracking.loggers import make_logger\n"
        "from masa.config.tracking import TrackingSection; from masa.tracking.trackers.tracked import TrackedRun\n"
        f"run = TrackedRun(Path({str(tmp_path)!r}), 'p', 'n', {{}}, warn=print)\n"
        "logger = make_logger(TrackingSection(wandb={'mode': 'offline'}), run)\n"
        "logger.log(1, {'reward/r_meta': float('nan')}); logger.log(1, {'reward/r_meta': 0.5}); logger.finish()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1


SAMPLE = Sample(
    step=3,
    problem="p1",
    path="solution",
    prompt="1 + 1",
    response="It is 2.",
    reward={"correctness": 1.0, "solution": None},
    finish_reason="stop",
    answer="2",
)


def test_wandb_gets_entity_group_tags_and_project(monkeypatch, tmp_path: Path) -> None:
    wandb = FakeWandb()
    start(monkeypatch, tmp_path, wandb, "online", entity="team", tags=["a", "b"])
    asked = {name: wandb.options[name] for name in ("project", "entity", "group", "tags", "name")}
    # The group is run.name and the name that of the folder, unless they are given.
    assert asked == {"project": "masa", "entity": "team", "group": "mine", "tags": ["a", "b"], "name": tmp_path.name}
    start(monkeypatch, tmp_path, wandb, "online", group="g", name="n", project="p")
    assert {name: wandb.options[name] for name in ("project", "group", "name")} == {
        "project": "p", "group": "g", "name": "n",
    }  # fmt: skip


def test_wandb_gets_samples_as_a_table_and_figures_as_images(monkeypatch, tmp_path: Path) -> None:
    wandb = FakeWandb()
    logger, warnings = start(monkeypatch, tmp_path, wandb, "offline")
    logger.log_samples(3, [SAMPLE])
    logger.log_figures(5, [tmp_path / "overview.png"])
    table, images = (call[1] for call in wandb.calls if call[0] == "log")
    assert table["step"] == 3
    _, columns, rows = table["samples"]
    assert dict(zip(columns, rows[0], strict=True)) == {
        "step": 3, "problem": "p1", "path": "solution", "prompt": "1 + 1", "response": "It is 2.",
        "rewards": "correctness 1", "answer": "2", "finish_reason": "stop",
    }  # fmt: skip
    assert images == {"step": 5, "figures/overview": ("image", "overview.png")}
    assert warnings == []


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_end_of_an_offline_run_says_how_to_upload_it(monkeypatch, tmp_path: Path, mode: Any) -> None:
    said: list[str] = []
    logger, _ = start(monkeypatch, tmp_path, FakeWandb(), mode, said)
    logger.finish()
    logger.finish()
    expected = f"to upload it: wandb sync {tmp_path / 'wandb' / 'offline-run-*'}"
    assert [line.partition("; ")[2] for line in said] == ([expected] if mode == "offline" else [])
