"""Where metrics go besides the run directory: Weights & Biases, on request and never in the way of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from masa.callbacks import Callback
from masa.errors import brief
from masa.run_state import RunState

WandbMode = Literal["disabled", "offline", "online"]
_INIT_SECONDS = 60
_FINISH_SECONDS = 120


class MetricLogger(Protocol):
    """Something that takes a step's metrics. Neither method raises."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take one step's metrics."""
        ...

    def finish(self) -> None:
        """Hand over what is left; safe to call twice."""
        ...


class CompositeLogger:
    """Several loggers as one; with none it does nothing."""

    def __init__(self, loggers: Sequence[MetricLogger] = ()) -> None:
        self.loggers = tuple(loggers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.log(step, metrics)

    def finish(self) -> None:
        for logger in self.loggers:
            logger.finish()


class WandbLogger:
    """Metrics to Weights & Biases.

    ``mode="online"`` without a key, or without a reachable server, falls back to offline files under
    ``folder/wandb``, which ``wandb sync`` uploads later. Whatever goes wrong in wandb is told once through ``warn``,
    and the logger switches itself off; the run goes on.

    ``run_id`` ties the parts of a resumed run together: the same id continues the same W&B run.
    """

    def __init__(
        self,
        mode: Literal["offline", "online"],
        *,
        project: str,
        folder: Path,
        config: Mapping[str, Any],
        warn: Callable[[str], None],
        name: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self._warn = warn
        self._run: Any = None
        options = {
            "project": project,
            "dir": str(folder),
            "config": dict(config),
            "name": name,
            "id": run_id,
            "resume": "allow" if run_id else None,
        }
        self._guarded("start", lambda: self._start(mode, options))

    @property
    def active(self) -> bool:
        """Whether metrics still reach wandb."""
        return self._run is not None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._run is not None:
            self._guarded(f"log step {step}", lambda: self._run.log({"step": step, **metrics}))

    def finish(self) -> None:
        if self._run is not None:
            self._guarded("finish", lambda: self._run.finish())
        self._run = None

    def _start(self, mode: Literal["offline", "online"], options: dict[str, Any]) -> None:
        import wandb

        if mode == "online" and not _has_credentials(wandb):
            self._warn("wandb: no API key found; metrics are kept offline (upload them later with `wandb sync`)")
            mode = "offline"
        try:
            self._run = _init(wandb, mode, options)
        except Exception as error:
            if mode == "offline":
                raise
            self._warn(f"wandb: not reachable ({brief(error)}); metrics are kept offline")
            self._run = _init(wandb, "offline", options)
        # A resumed run logs some steps twice; wandb refuses to go back along its own step axis, but not along this one.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def _guarded(self, action: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._run = None
            self._warn(f"wandb: could not {action} ({brief(error)}); it is off from here on, the run goes on")


class Trackers(Callback):
    """Hands each step's metrics to what ``tracking`` asks for."""

    def __init__(self) -> None:
        self._logger = CompositeLogger()

    def on_run_begin(self, run: RunState) -> None:
        section = run.config.tracking.wandb
        self._logger = make_logger(
            section.mode,
            project=section.project,
            name=section.name,
            folder=run.directory.path,
            config=run.config.model_dump(mode="json"),
            warn=run.message,
        )

    def on_log(self, run: RunState) -> None:
        self._logger.log(run.step, run.metrics)

    def on_run_end(self, run: RunState) -> None:
        self._logger.finish()


def make_logger(
    mode: WandbMode,
    *,
    project: str,
    folder: Path,
    config: Mapping[str, Any],
    warn: Callable[[str], None],
    name: str | None = None,
) -> CompositeLogger:
    """The loggers a configuration asks for; with ``mode="disabled"`` wandb is not even imported.

    ``folder`` is the run directory: wandb's files and the id of its run live there, so a resumed run continues.
    """
    if mode == "disabled":
        return CompositeLogger()
    wandb_logger = WandbLogger(
        mode,
        project=project,
        folder=folder,
        config=config,
        warn=warn,
        name=name,
        run_id=_run_id(folder),
    )
    return CompositeLogger([wandb_logger])


def _init(wandb: Any, mode: str, options: dict[str, Any]) -> Any:
    settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS)
    if hasattr(settings, "finish_timeout"):
        settings.finish_timeout = _FINISH_SECONDS
    return wandb.init(mode=mode, settings=settings, **options)


def _has_credentials(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:
        # Before `prompt` existed, asking for a key that is not there would have waited for someone to type it.
        return bool(wandb.api.api_key)


def _run_id(folder: Path) -> str:
    from uuid import uuid4

    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(uuid4().hex)
    return path.read_text().strip()
