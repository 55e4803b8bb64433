"""Which model a command is about: one that is named, that of a configuration, or a run's checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masa.config import Config, ConfigError, load_config
from masa.config.changes import Changes, apply_changes
from masa.config.load import changed_config, flatten


@dataclass(frozen=True)
class ModelChoice:
    """``model`` and ``run`` exclude each other; ``config`` and ``overrides`` may stand beside either."""

    model: str | None
    run: str | Path | None
    step: int | None
    config: Config | str | Path | None
    overrides: Changes


def chosen_model(choice: ModelChoice) -> tuple[Config, str | None]:
    """The configuration (model, prompts, rewards) and, for a checkpoint of a run, the folder its results belong in.

    Raises:
        ConfigError: two models or none, a step without a checkpoint, or a configuration that cannot be.
    """
    if choice.model and choice.run:
        raise ConfigError("--model and --run: each names a model, one of them is allowed")
    overrides = texts_of(choice.overrides)
    if choice.run:
        return _checkpoint_of(choice, choice.run, overrides)
    if choice.model:
        overrides.append(f"model.path={choice.model}")
    elif not choice.config:
        raise ConfigError("--model: a folder, a hub id or `embedded` is needed; --run and --config name a model, too")
    config = _changed(choice.config, overrides)
    # Without --model the configuration says all of the model, its type included.
    return _as_evaluated(config, overrides) if choice.model else config, None


def texts_of(changes: Changes) -> list[str]:
    """Changes as they are written on the command line."""
    if not isinstance(changes, Mapping):
        return list(changes)
    values: dict[str, Any] = {}
    apply_changes(values, changes)
    return [f"{key}={json.dumps(value)}" for key, value in flatten(values).items()]


def _changed(config: Config | str | Path | None, overrides: Sequence[str]) -> Config:
    """A configuration, or the one of a file, with changes."""
    return changed_config(config, overrides) if isinstance(config, Config) else load_config(config, overrides)


def _as_evaluated(config: Config, overrides: Sequence[str]) -> Config:
    """With the model as its checkpoint was saved, unless ``model.dtype=...`` was given."""
    from masa.evaluation.running.checkpoint_model import evaluated_model

    given = any(override.startswith("model.dtype=") for override in overrides)
    return config.model_copy(update={"model": evaluated_model(config.model, dtype_is_given=given)})


def _checkpoint_of(choice: ModelChoice, run: str | Path, overrides: list[str]) -> tuple[Config, str]:
    from masa.checkpointing.checkpoint import list_checkpoints
    from masa.tracking.run_directory import RunDirectory

    directory = RunDirectory(run)
    config = _changed(choice.config or directory.config, overrides)
    found = dict(list_checkpoints(directory.checkpoints))
    step = max(found, default=0) if choice.step is None else choice.step
    if step and step not in found:
        raise ConfigError(f"--step: found {step}, the checkpoints of {directory.path} are {sorted(found) or 'none'}")
    if step:
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": str(found[step])})})
        config = _as_evaluated(config, overrides)
    return config, str(directory.path / "evaluation" / f"step-{step}")
