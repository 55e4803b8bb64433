"""Where metrics go besides the run directory: the trackers that are asked for, never in the way of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from masa.callbacks import Callback
from masa.config.tracking import TrackingSection
from masa.rollout.requests import RequestBuilder
from masa.run_state import RunState
from masa.tracking.groups import group_samples
from masa.tracking.samples import Sample, choose_samples
from masa.tracking.trackers.accelerated import MlflowLogger, OwnTrackerLogger, TensorBoardLogger, TrackioLogger
from masa.tracking.trackers.choice import chosen_trackers, own_tracker
from masa.tracking.trackers.tracked import MetricLogger, TrackedRun
from masa.tracking.trackers.weights_and_biases import WandbLogger

_KINDS = {kind.name: kind for kind in (TensorBoardLogger, TrackioLogger, MlflowLogger)}


class CompositeLogger:
    """Several loggers as one; with none it does nothing."""

    def __init__(self, loggers: Sequence[MetricLogger] = ()) -> None:
        self.loggers = tuple(loggers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.log(step, metrics)

    def log_samples(self, step: int, samples: Sequence[Sample]) -> None:
        for logger in self.loggers:
            logger.log_samples(step, samples)

    def log_figures(self, step: int, paths: Sequence[Path]) -> None:
        for logger in self.loggers:
            logger.log_figures(step, paths)

    def finish(self) -> None:
        for logger in self.loggers:
            logger.finish()


class Trackers(Callback):
    """Hands each step's metrics, some of its samples and the run's figures to what ``tracking`` asks for."""

    def __init__(self, builder: RequestBuilder) -> None:
        self._prompt_text = builder.prompt_text
        self._logger = CompositeLogger()

    def on_run_begin(self, run: RunState) -> None:
        section = run.config.tracking
        tracked = TrackedRun(
            folder=run.directory.path,
            project=section.project,
            name=run.directory.path.name,
            config=run.config.model_dump(mode="json"),
            warn=run.message,
            say=run.message,
            step=run.start_step,
            arguments=section.arguments,
        )
        self._logger = make_logger(section, tracked)

    def on_log(self, run: RunState) -> None:
        self._logger.log(run.step, run.metrics)
        every = run.config.tracking.samples_to_trackers_every
        if self._logger.loggers and every and run.step > 0 and run.step % every == 0:
            shown = run.groups[: run.config.tracking.samples_per_step]
            samples = choose_samples(group_samples(run.step, shown, self._prompt_text), len(shown))
            self._logger.log_samples(run.step, samples)

    def on_run_end(self, run: RunState) -> None:
        if self._logger.loggers and run.summary is not None and run.config.tracking.figures:
            self._logger.log_figures(run.step, _drawn(run))
        self._logger.finish()


def make_logger(section: TrackingSection, run: TrackedRun) -> CompositeLogger:
    """The loggers a configuration asks for; without any, no package of a tracker is imported.

    Raises:
        ConfigError: a tracker of the user's own cannot be imported; `require_trackers` finds that before a run.
    """
    loggers: list[MetricLogger] = []
    for name in chosen_trackers(section):
        if name == "wandb":
            loggers.append(WandbLogger(run, section.wandb))
        elif name in _KINDS:
            loggers.append(_KINDS[name](run))
        else:
            loggers.append(OwnTrackerLogger(run, own_tracker(name), name))
    return CompositeLogger(loggers)


def _drawn(run: RunState) -> list[Path]:
    from masa.tracking.figures import draw_figures

    try:
        return draw_figures(run.directory.path)
    except Exception:  # the end of the run draws them once more, and says what went wrong
        return []
