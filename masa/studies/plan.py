"""A study's file: one base configuration, the arms' differences from it, and the seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from masa.config import Config, ConfigError, differing_keys, load_config
from masa.config.files import read_config_files

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
# What may differ between two runs of one arm and seed without making them different: where they lie, how many processes
# do the work, how much is written down.
_INDIFFERENT = ("run.dir", "run.threads", "checkpoint.", "tracking.", "rewards.verifier_workers")


class Arm(BaseModel):
    """One arm: another base file in place of the study's, and options by their dotted keys."""

    model_config = ConfigDict(extra="forbid")

    config: str | None = None
    title: str | None = None
    set: dict[str, Any] = {}


class Study(BaseModel):
    """What a study's file says. Paths are relative to that file."""

    model_config = ConfigDict(extra="forbid")

    title: str
    config: str
    seeds: Annotated[list[int], Field(min_length=1)]
    baseline: str
    set: dict[str, Any] = {}
    arms: Annotated[dict[str, Arm], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _empty_arms(cls, values: Any) -> Any:
        """An arm with no differences may be written with nothing behind its name."""
        if isinstance(values, Mapping) and isinstance(values.get("arms"), Mapping):
            return {**values, "arms": {name: arm or {} for name, arm in values["arms"].items()}}
        return values

    @model_validator(mode="after")
    def _checked(self) -> Study:
        for name in self.arms:
            if not _NAME.fullmatch(name):
                raise ValueError(f"arm {name!r}: allowed are small letters, digits and underscores")
        if self.baseline not in self.arms:
            raise ValueError(f"baseline: found {self.baseline!r}, allowed: {', '.join(self.arms)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {self.seeds}, in which one occurs twice")
        return self


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study, with its resolved configuration."""

    study: str
    arm: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"

    @property
    def differences(self) -> dict[str, Any]:
        """The options that are not the schema's defaults and make the run what it is, by dotted key."""
        found = differing_keys(Config(), self.config)
        return {key: own for key, (_, own) in sorted(found.items()) if not key.startswith(_INDIFFERENT)}

    @property
    def fingerprint(self) -> str:
        """A hash of `differences`."""
        return hashlib.sha256(json.dumps(self.differences, sort_keys=True).encode()).hexdigest()[:16]


def read_study(path: str | Path) -> Study:
    """The study that a YAML file describes; it may extend another study's file, like a configuration.

    Raises:
        ConfigError: a file that is missing or no YAML mapping, or that holds what no study has.
    """
    path = Path(path)
    values, _ = read_config_files(path, "study file", "keys", Study)
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'study'}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{path}: " + "\n".join(lines)) from None


def planned_runs(
    path: str | Path, folder: Path, *, arms: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[PlannedRun]:
    """All runs of a study, seed by seed, or those of ``arms`` and ``seeds`` alone; run ``r`` lies in ``folder/r``.

    Every configuration is resolved and validated here, before anything runs.

    Raises:
        ConfigError: an arm or seed that the study does not have, or a configuration that is refused.
    """
    path, study = Path(path), read_study(path)
    _refuse_unknown("--arms", arms, list(study.arms))
    _refuse_unknown("--seeds", seeds, study.seeds)
    planned = []
    for seed in seeds or study.seeds:
        for name in arms or study.arms:
            arm = study.arms[name]
            source = path.parent / (arm.config or study.config)
            changes = {**study.set, **arm.set, "run.seed": seed, "run.dir": str(folder / f"{name}-seed{seed}")}
            overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
            try:
                config = load_config(source, overrides)
            except ConfigError as error:
                raise ConfigError(f"{path}: arm {name}: {error}") from error
            planned.append(PlannedRun(path.stem, name, seed, config))
    return planned


def changed_options(run: PlannedRun, recorded: Mapping[str, Any]) -> str:
    """In words, how the options of a record differ from those of the run that is planned now."""
    keys = sorted({*run.differences, *recorded})
    return ", ".join(
        f"{key} (was {recorded.get(key, 'default')!r}, now {run.differences.get(key, 'default')!r})"
        for key in keys
        if recorded.get(key) != run.differences.get(key)
    )


def _refuse_unknown(option: str, given: Sequence[Any], known: Sequence[Any]) -> None:
    unknown = [one for one in given if one not in known]
    if unknown:
        raise ConfigError(f"{option}: found {', '.join(map(str, unknown))}, allowed: {', '.join(map(str, known))}")


__all__ = ["Arm", "PlannedRun", "Study", "changed_options", "planned_runs", "read_study"]
