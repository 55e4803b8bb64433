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
_NOT_THE_METHOD = (
    "run.seed",
    "run.dir",
    "run.name",
    "run.threads",
    "tracking.",
    "checkpoint.",
    "rewards.verifier_workers",
)
_COLD_START = "cold_start_from."
# Sections of the same configuration that a cold start does not use.
_NOT_THE_COLD_START = ("controls.", "algorithm.meta", "run.steps")
_LONGEST_DIFFERENCE = 3


@dataclass(frozen=True)
class RunGroup:
    """Runs of one method, one a seed. ``repeats`` are further runs of a seed that is there already: not a sample more.

    ``key`` names the group in the page's markup.
    """

    label: str
    color: str
    runs: tuple[Run, ...]
    trained: bool = True
    repeats: tuple[Run, ...] = ()
    key: str = "group-0"

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
    labels = _labels(ordered)
    groups = []
    for index, (label, group) in enumerate(zip(labels, ordered, strict=True)):
        kept, repeats = _one_a_seed(group)
        color = PALETTE[index % len(PALETTE)]
        groups.append(RunGroup(label, color, kept, bool(group[0].metrics), repeats, f"group-{index}"))
    return groups


def _one_a_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """One run of each seed, the one that came furthest (of equals the first), and the others."""
    kept: dict[object, Run] = {}
    for run in runs:
        seed = run.path.resolve() if run.seed is None else run.seed
        if seed not in kept or run.last_step > kept[seed].last_step:
            kept[seed] = run
    chosen = set(map(id, kept.values()))
    return tuple(kept.values()), tuple(run for run in runs if id(run) not in chosen)


def baseline_of(groups: Sequence[RunGroup]) -> RunGroup:
    """What the others are compared with: the first group without the meta path, else the first."""
    return next((group for group in groups if group.is_baseline), groups[0])


def uses_meta(run: Run) -> bool:
    return bool(run.section("algorithm").get("meta", False))


def controls_of(run: Run) -> list[str]:
    """The controls of MASA-efficient that a run has switched on."""
    section = run.section("controls")
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
    if run.cold_start_config:
        # Each seed has a cold start of its own: what it was told to do is part of the method, its folder is not.
        del values["model.path"]
        values |= flat(run.cold_start_config, _COLD_START)
    # A name given for the report sets runs apart; one of their configuration's own may differ from seed to seed.
    named = (("name", run.given_name),) if run.given_name else ()
    kept = ((key, repr(value)) for key, value in sorted(values.items()) if not _is_incidental(key))
    return (*named, *kept)


def _is_incidental(key: str) -> bool:
    """Whether an option of a run, or of the cold start before it, is not part of the method."""
    of_cold_start = key.removeprefix(_COLD_START)
    if of_cold_start != key and of_cold_start.startswith(_NOT_THE_COLD_START):
        return True
    return of_cold_start.startswith(_NOT_THE_METHOD)


def _rank(run: Run) -> int:
    return int(uses_meta(run)) + int(bool(controls_of(run)))


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Each group's name, with the keys that tell it from others of its name; numbered where alike."""
    names = [_group_name(group) for group in groups]
    configs = [dict(_method(group[0])) for group in groups]
    labels = []
    for index, name in enumerate(names):
        alike = [other for other, same in enumerate(names) if same == name and other != index]
        if not alike:
            labels.append(name)
            continue
        number = names[: index + 1].count(name)
        told = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in configs[index].items()
            if any(configs[other].get(key) != value for other in alike)
        ]
        more = f" and {len(told) - _LONGEST_DIFFERENCE} more" if len(told) > _LONGEST_DIFFERENCE else ""
        labels.append(f"{name} {number} ({', '.join(told[:_LONGEST_DIFFERENCE])}{more})")
    return labels


def _group_name(group: Sequence[Run]) -> str:
    """The name that all runs of a group share, else their method's."""
    names = {run.name for run in group}
    shared = next(iter(names)) if len(names) == 1 else None
    return shared or _name(group[0])


def _name(run: Run) -> str:
    algorithm = str(run.section("algorithm").get("name", "grpo")).upper().replace("_", " ").replace("DR ", "Dr. ")
    if not run.metrics:
        return str(run.section("model").get("path", run.path.name))
    controls = controls_of(run)
    if not uses_meta(run):
        return f"{algorithm} with {', '.join(controls)}" if controls else algorithm
    suffix = "" if algorithm == "GRPO" else f" ({algorithm})"
    if not controls:
        return f"MASA{suffix}"
    if {"expert", "gating", "cutoff"} <= set(controls):
        return f"MASA-efficient{suffix}"
    return f"MASA + {', '.join(controls)}{suffix}"
