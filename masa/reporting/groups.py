"""Runs that differ only by their seed belong together: they are one group, shown as mean and interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.reporting.runs import Run
from masa.tracking.figure_style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
CONTROLS = ("expert", "gating", "cutoff", "hinting")
# What may differ inside a group: the seed, and what changes no number of a run.
_NOT_THE_METHOD = ("run.seed", "run.dir", "run.threads", "tracking.", "checkpoint.", "rewards.verifier_workers")
_LONGEST_DIFFERENCE = 3
_LONGEST_SHORT = 18


@dataclass(frozen=True)
class RunGroup:
    """Runs of one method with different seeds; ``short`` is the label that has room in a picture."""

    label: str
    short: str
    color: str
    runs: tuple[Run, ...]
    trained: bool = True

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs if run.seed is not None]

    @property
    def is_baseline(self) -> bool:
        """Whether this is plain policy optimisation: no meta path and no control."""
        return self.trained and not uses_meta(self.runs[0]) and not controls_of(self.runs[0])


def group_runs(runs: Sequence[Run]) -> list[RunGroup]:
    """The groups of ``runs``, those without the meta path first, else in the order in which they were given."""
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        members.setdefault(_method(run), []).append(run)
    ordered = sorted(members.values(), key=lambda group: (bool(group[0].metrics), _rank(group[0])))
    labels = _labels([group[0] for group in ordered])
    return [
        RunGroup(label, short, PALETTE[index % len(PALETTE)], tuple(group), trained=bool(group[0].metrics))
        for index, ((label, short), group) in enumerate(zip(labels, ordered, strict=True))
    ]


def baseline_of(groups: Sequence[RunGroup]) -> RunGroup:
    """What the others are compared with: the first group without the meta path, else the first."""
    return next((group for group in groups if group.is_baseline), groups[0])


def uses_meta(run: Run) -> bool:
    return bool(_section(run, "algorithm").get("meta", False))


def controls_of(run: Run) -> list[str]:
    """The controls of MASA-efficient that a run has switched on."""
    section = _section(run, "controls")
    return [name for name in CONTROLS if isinstance(section.get(name), Mapping) and section[name].get("enabled", False)]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a nested configuration."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def differences(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Configuration keys in which the groups differ, with each group's value (None where a group lacks the key)."""
    configs = [dict(_method(group.runs[0])) for group in groups if group.trained]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _method(run: Run) -> tuple[tuple[str, str], ...]:
    if not run.metrics:
        return (("evaluation", str(run.path)),)
    values = flat(run.config)
    return tuple((key, repr(value)) for key, value in sorted(values.items()) if not key.startswith(_NOT_THE_METHOD))


def _rank(run: Run) -> int:
    return int(uses_meta(run)) + int(bool(controls_of(run)))


def _labels(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Each method's name with the keys that tell it from others of its name, and a short form; numbered where alike."""
    names = [_name(run) for run in runs]
    configs = [dict(_method(run)) for run in runs]
    labels = []
    for index, name in enumerate(names):
        alike = [other for other, same in enumerate(names) if same == name and other != index]
        if not alike:
            labels.append((name, _shortened(name)))
            continue
        number = names[: index + 1].count(name)
        told = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in configs[index].items()
            if any(configs[other].get(key) != value for other in alike)
        ]
        more = ", ..." if len(told) > _LONGEST_DIFFERENCE else ""
        labels.append(
            (f"{name} {number} ({', '.join(told[:_LONGEST_DIFFERENCE])}{more})", f"{_shortened(name)} {number}")
        )
    return labels


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_SHORT else f"{name[: _LONGEST_SHORT - 1]}…"


def _name(run: Run) -> str:
    algorithm = str(_section(run, "algorithm").get("name", "grpo")).upper().replace("_", " ").replace("DR ", "Dr. ")
    if not run.metrics:
        return str(_section(run, "model").get("path", run.path.name))
    controls = controls_of(run)
    if not uses_meta(run):
        return f"{algorithm} with {', '.join(controls)}" if controls else algorithm
    suffix = "" if algorithm == "GRPO" else f" ({algorithm})"
    if not controls:
        return f"MASA{suffix}"
    if {"expert", "gating", "cutoff"} <= set(controls):
        return f"MASA-efficient{suffix}"
    return f"MASA + {', '.join(controls)}{suffix}"


def _section(run: Run, name: str) -> Mapping[str, Any]:
    value = run.config.get(name)
    return value if isinstance(value, Mapping) else {}
