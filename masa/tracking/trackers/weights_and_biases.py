"""Weights & Biases, through accelerate's tracker: never in the way of a run, and offline where it cannot be online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from masa.errors import brief
from masa.tracking.samples import Sample
from masa.tracking.trackers.accelerated import AccelerateLogger
from masa.tracking.trackers.tracked import SAMPLE_COLUMNS, TrackedRun, sample_table

if TYPE_CHECKING:
    from masa.config.tracking import WandbSection

_INIT_SECONDS = 60
_FINISH_SECONDS = 120


class WandbLogger(AccelerateLogger):
    """Metrics, samples as a table, and figures to Weights & Biases.

    ``mode="online"`` without a key, or without a reachable server, falls back to offline files under ``wandb/`` of the
    run directory; the end of the run names the command that uploads them. The file ``wandb_id`` ties the parts of a
    resumed run together: the same id continues the same W&B run.
    """

    name = "wandb"

    def __init__(self, run: TrackedRun, section: WandbSection) -> None:
        self._section = section
        self._mode = section.mode or "online"
        super().__init__(run)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        # A resumed run logs some steps twice; wandb refuses to go back along its own step axis, not along this metric.
        self._guarded(f"log step {step}", lambda: self._tracker.log({"step": step, **metrics}))

    def finish(self) -> None:
        was_active = self.active
        super().finish()
        if was_active and self._mode == "offline":
            files = self._run.folder / "wandb" / "offline-run-*"
            self._run.say(f"wandb: the run is kept offline; to upload it: wandb sync {files}")

    def _started(self) -> Any:
        import wandb
        from accelerate.tracking import WandBTracker

        if self._mode == "online" and not _has_credentials(wandb):
            self._run.warn("wandb: no API key found; metrics are kept offline (upload them later with `wandb sync`)")
            self._mode = "offline"
        options = self._options(wandb)
        project = self._section.project or self._run.project
        tracker = WandBTracker(project, mode=self._mode, **options)
        try:
            tracker.start()
        except Exception as error:
            if self._mode == "offline":
                raise
            self._run.warn(f"wandb: not reachable ({brief(error)}); metrics are kept offline")
            self._mode = "offline"
            tracker = WandBTracker(project, mode=self._mode, **options)
            tracker.start()
        tracker.tracker.define_metric("step")
        tracker.tracker.define_metric("*", step_metric="step")
        return tracker

    def _options(self, wandb: Any) -> dict[str, Any]:
        section = self._section
        settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS)
        if hasattr(settings, "finish_timeout"):
            settings.finish_timeout = _FINISH_SECONDS
        return {
            "settings": settings,
            "dir": str(self._run.folder),
            "config": dict(self._run.config),
            "name": section.name or self._run.name,
            "entity": section.entity,
            "group": section.group or self._run.config.get("run", {}).get("name"),
            "tags": section.tags or None,
            "id": self._run.remembered("wandb_id", lambda: uuid4().hex),
            "resume": "allow",
            **self._arguments(),
        }

    def _send_samples(self, step: int, samples: Sequence[Sample]) -> None:
        import wandb

        table = wandb.Table(columns=list(SAMPLE_COLUMNS), data=sample_table(samples))
        self._tracker.log({"step": step, "samples": table})

    def _send_figures(self, step: int, paths: Sequence[Path]) -> None:
        import wandb

        images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in paths}
        self._tracker.log({"step": step, **images})


def _has_credentials(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:
        # Before `prompt` existed, asking for a key that is not there would have waited for someone to type it.
        return bool(wandb.api.api_key)
