"""Options of tracking: what a run records in addition to its metrics, and the trackers that it goes to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from masa.config.section import NonNegativeInt, Section

TRACKERS = ("wandb", "tensorboard", "trackio", "mlflow")


class WandbSection(Section):
    """Tracking by Weights & Biases."""

    mode: Literal["disabled", "offline", "online"] | None = None
    """`online` without an API key falls back to `offline`; either alone is enough to track the run by Weights & Biases.
    null: `online` where `tracking.trackers` names `wandb`, else `disabled`."""
    project: str | None = None
    """Project of Weights & Biases that the run belongs to; null: `tracking.project`."""
    entity: str | None = None
    """User or team of the project; null: the default of the API key."""
    group: str | None = None
    """Group of runs; null: `run.name`, which the seeds of one method share."""
    tags: list[str] = Field(default_factory=list)
    """Tags of the run."""
    name: str | None = None
    """Name of the run in Weights & Biases; null: that of the run's folder."""


class TrackingSection(Section):
    """Tracking: what a run records in addition to its metrics."""

    samples_per_step: NonNegativeInt = 2
    """Number of problems of each step of which one solution and one meta-prediction are written to samples.jsonl."""
    figures: bool = True
    """Draw figures at the end of the run, as figures/*.png in the run directory."""
    trackers: list[str] = Field(default_factory=list)
    """Trackers that metrics, samples and figures go to, in addition to the run directory: `wandb`, `tensorboard`,
    `trackio`, `mlflow`, or `module:Class` of your own, a subclass of `accelerate.tracking.GeneralTracker`."""
    project: str = "masa"
    """Project of the trackers; MLflow calls it an experiment."""
    samples_to_trackers_every: NonNegativeInt = 10
    """Number of steps between those whose samples go to the trackers as well; 0: never."""
    arguments: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further arguments of trackers, by the name that `trackers` has: `{trackio: {space_id: me/runs}}`; they go to
    `wandb.init`, `SummaryWriter`, `trackio.init`, accelerate's `MLflowTracker`, or the class of your own."""
    wandb: WandbSection = WandbSection()

    @field_validator("trackers")
    @classmethod
    def _trackers_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in TRACKERS and ":" not in name:
                raise ValueError(f"found {name!r}, allowed: {', '.join(TRACKERS)}, or module:Class")
        return names

    @model_validator(mode="after")
    def _trackers_fit(self) -> TrackingSection:
        if "wandb" in self.trackers and self.wandb.mode == "disabled":
            raise ValueError("trackers names wandb, but wandb.mode is disabled; allowed: offline, online or null")
        known = [*self.trackers, *(["wandb"] if self.wandb.mode in ("offline", "online") else [])]
        for name in self.arguments:
            if name not in known:
                raise ValueError(f"arguments has {name!r}, allowed: the trackers of this run, {known or 'none'}")
        return self
