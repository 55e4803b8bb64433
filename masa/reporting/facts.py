"""What the runs of a report were made with, for the head of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.tracking.environment import commit_name

_COMMIT_CHARACTERS = 12


def facts_of(groups: Sequence[RunGroup]) -> list[tuple[str, str]]:
    """Policy, problems, machine, version and dates of the runs: all values that occur; what is unknown is absent."""
    runs = [run for group in groups for run in group.runs]
    found = (
        ("policy", [_text(run.section("model").get("path")) for run in runs]),
        ("training problems", [_text(run.section("problems").get("train")) for run in runs]),
        ("held-out problems", [_text(run.section("problems").get("eval")) for run in runs]),
        ("machine", [_machine(run.environment) for run in runs]),
        ("masa", [_version(run) for run in runs]),
        ("date", [str(run.environment.get("time", ""))[:10] for run in runs]),
    )
    return [(name, told) for name, values in found if (told := _distinct(values))]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _machine(environment: Mapping[str, Any]) -> str:
    cpus = environment.get("cpu_count")
    parts = (str(environment.get("platform", "")), f"{cpus} CPU cores" if cpus else "")
    return ", ".join(part for part in parts if part)


def _version(run: Run) -> str:
    commit = commit_name(run.environment.get("git"), _COMMIT_CHARACTERS)
    packages = run.environment.get("packages") or {}
    version = next((str(packages[name]) for name in ("masa-rl", "masa") if name in packages), "")
    return ", ".join(part for part in (version, f"commit {commit}" if commit else "") if part)


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))
