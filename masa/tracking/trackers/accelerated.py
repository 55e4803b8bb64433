"""Trackers of accelerate (`accelerate.tracking.GeneralTracker`): TensorBoard, trackio, MLflow, and the user's own."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa.errors import brief
from masa.tracking.samples import Sample
from masa.tracking.trackers.tracked import SAMPLE_COLUMNS, TrackedRun, flat_values, sample_table, sample_text

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

# The file of the run directory that ties the parts of a resumed run together.
_MLFLOW_ID = "mlflow_id"
# What MLflow allows in the name of a metric.
_NOT_IN_MLFLOW = re.compile(r"[^\w./ -]")


class AccelerateLogger(ABC):
    """Metrics to a tracker of accelerate.

    Whatever goes wrong in it is told once, and the tracker is off from there on; the run goes on.
    """

    name = "tracker"

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._tracker: Any = None
        self._guarded("start", self._open)

    @property
    def active(self) -> bool:
        """Whether metrics still reach the tracker."""
        return self._tracker is not None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        values = {self._metric_name(name): value for name, value in metrics.items()}
        self._guarded(f"log step {step}", lambda: self._tracker.log(values, step=step))

    def log_samples(self, step: int, samples: Sequence[Sample]) -> None:
        if samples and self.active:
            self._guarded(f"log samples of step {step}", lambda: self._send_samples(step, samples))

    def log_figures(self, step: int, paths: Sequence[Path]) -> None:
        if paths and self.active:
            self._guarded("log figures", lambda: self._send_figures(step, paths))

    def finish(self) -> None:
        self._guarded("finish", lambda: self._tracker.finish())
        self._tracker = None

    def _open(self) -> None:
        from accelerate import PartialState

        PartialState()  # accelerate's trackers write to its log, which wants to know the processes first
        self._tracker = self._started()

    @abstractmethod
    def _started(self) -> Any:
        """accelerate's tracker, at work and with the run's configuration."""

    def _metric_name(self, name: str) -> str:
        return name

    def _send_samples(self, step: int, samples: Sequence[Sample]) -> None:
        if hasattr(self._tracker, "log_table"):
            data = sample_table(samples)
            self._tracker.log_table("samples", columns=list(SAMPLE_COLUMNS), data=data, step=step)

    def _send_figures(self, step: int, paths: Sequence[Path]) -> None:
        if hasattr(self._tracker, "log_images"):
            self._tracker.log_images({f"figures/{path.stem}": [_pixels(path)] for path in paths}, step=step)

    def _arguments(self) -> dict[str, Any]:
        return dict(self._run.arguments.get(self.name, {}))

    def _guarded(self, action: str, call: Callable[[], None]) -> None:
        if action != "start" and self._tracker is None:
            return
        try:
            call()
        except Exception as error:
            self._tracker = None
            self._run.warn(
                f"{self.name}: could not {action} ({brief(error)}); it is switched off from here on; the run continues"
            )


class PlainLogger(AccelerateLogger):
    """Metrics to a tracker that is made, started and given the configuration."""

    @abstractmethod
    def _make(self) -> GeneralTracker:
        """accelerate's tracker, not started yet."""

    def _started(self) -> Any:
        tracker = self._make()
        tracker.start()
        self._store_configuration(tracker)
        return tracker

    def _store_configuration(self, tracker: Any) -> None:
        tracker.store_init_configuration(flat_values(self._run.config))


class TensorBoardLogger(PlainLogger):
    """TensorBoard: event files in ``tensorboard/`` of the run directory; samples as texts."""

    name = "tensorboard"

    def _make(self) -> GeneralTracker:
        from accelerate.tracking import TensorBoardTracker

        # What an interrupted start wrote of steps that are run again is hidden.
        purged = {"purge_step": self._run.step + 1} if self._run.step else {}
        return TensorBoardTracker(self.name, self._run.folder, **(purged | self._arguments()))

    def _send_samples(self, step: int, samples: Sequence[Sample]) -> None:
        self._tracker.log({"samples": sample_text(samples)}, step=step)

    def _send_figures(self, step: int, paths: Sequence[Path]) -> None:
        for path in paths:
            pixels = _pixels(path)
            self._tracker.log_images({f"figures/{path.stem}": pixels[None]}, step=step, dataformats="NHWC")


class TrackioLogger(PlainLogger):
    """trackio: metrics and configuration."""

    name = "trackio"

    def _make(self) -> GeneralTracker:
        from accelerate.tracking import TrackioTracker

        given = {"name": self._run.name, "config": flat_values(self._run.config), "resume": "allow"}
        return TrackioTracker(self._run.project, **(given | self._arguments()))

    def _store_configuration(self, tracker: Any) -> None:
        """Given when it is made."""


class MlflowLogger(PlainLogger):
    """MLflow: figures, and at the end samples.jsonl, as artifacts; a resumed run continues its MLflow run."""

    name = "mlflow"

    def _make(self) -> GeneralTracker:
        from accelerate.tracking import MLflowTracker

        known = self._run.folder / _MLFLOW_ID
        given = {"run_name": self._run.name, "run_id": known.read_text().strip() if known.exists() else None}
        return MLflowTracker(self._run.project, **(given | self._arguments()))

    def _store_configuration(self, tracker: Any) -> None:
        # MLflow refuses another value for a parameter that it has, and a resumed run may have more steps.
        if not (self._run.folder / _MLFLOW_ID).exists():
            super()._store_configuration(tracker)
        self._run.remembered(_MLFLOW_ID, lambda: str(tracker.tracker.info.run_id))

    def _metric_name(self, name: str) -> str:
        return _NOT_IN_MLFLOW.sub("_", name.replace("@", "_at_"))

    def _send_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """The whole file goes with the figures."""

    def _send_figures(self, step: int, paths: Sequence[Path]) -> None:
        for path in paths:
            self._tracker.log_artifact(str(path), "figures")
        samples = self._run.folder / "samples.jsonl"
        if samples.exists():
            self._tracker.log_artifact(str(samples))


class OwnTrackerLogger(PlainLogger):
    """A tracker of the user's own: a subclass of `GeneralTracker`, made as accelerate makes a registered one.

    Samples go to its ``log_table`` and figures to its ``log_images``, where it has such methods.
    """

    def __init__(self, run: TrackedRun, kind: type[GeneralTracker], path: str) -> None:
        self._kind = kind
        self.name = path
        super().__init__(run)

    def _make(self) -> GeneralTracker:
        folder = [str(self._run.folder)] if self._kind.requires_logging_directory else []
        return self._kind(self._run.project, *folder, **self._arguments())


def _pixels(path: Path) -> Any:
    """A picture as an array of height, width and three colours."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
