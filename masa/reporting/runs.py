"""What a report is made from: run directories, and evaluations inside or beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from masa.cold_start.folder import cold_start_folder
from masa.evaluation.measures.outcomes import Outcome, outcome_from_row
from masa.evaluation.running.store import EvaluationStore
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory

EVALUATIONS = "evaluation"


class ReportError(ValueError):
    """A directory that no report can be made from; the message names it and what was found there."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation by `masa.evaluate`: its name (the folder's), its results.json, the outcomes by benchmark."""

    name: str
    results: Mapping[str, Any]
    outcomes: Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True)
class Run:
    """The rows of one run directory. What a file does not hold is empty; ``config`` is the resolved configuration.

    ``held_out_by_step`` are the problems of each evaluation during training, by step. A directory that holds an
    evaluation and no run has no metrics, and the model's name as its label. ``given_name`` is the name that whoever
    asked for the report gave to the run.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    held_out_by_step: Mapping[int, Sequence[Outcome]] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    given_name: str | None = None
    cold_start: Mapping[str, Any] = field(default_factory=dict)
    """The summary of the cold start that the policy came from; empty where there was none, or it is not there."""
    cold_start_config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of a cold start whose folder is the run's ``model.path``; empty where that is another model."""

    @property
    def name(self) -> str | None:
        """What the run is called: the name given for the report, else ``run.name``; None without either."""
        return self.given_name or self.section("run").get("name")

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the configuration; empty where it is not there, or is none."""
        value = self.config.get(name)
        return value if isinstance(value, Mapping) else {}

    @property
    def held_out(self) -> Sequence[Outcome]:
        """The held-out problems of the last evaluation after training began; empty where there was none."""
        last = max(self.held_out_by_step, default=0)
        return self.held_out_by_step[last] if last else ()

    @property
    def last_step(self) -> int:
        """The last training step that has a row; 0 where none has."""
        return max((int(row["step"]) for row in self.metrics), default=0)

    @property
    def seed(self) -> int | None:
        return self.section("run").get("seed")


def read_run_directory(path: str | Path, name: str | None = None) -> Run:
    """The run (or the evaluation alone) that lies in a directory, called ``name`` where one is given.

    Raises:
        ReportError: no directory, or one that holds neither.
        ValueError: a line in the middle of a file is no JSON object.
    """
    directory = RunDirectory(path)
    if not directory.path.is_dir():
        raise ReportError(f"{directory.path}: no such directory; a run directory or an evaluation's folder is needed")
    if (directory.path / "results.json").exists() and not directory.metrics.exists():
        return replace(_evaluation_alone(directory.path), given_name=name)
    if not directory.metrics.exists():
        found = ", ".join(sorted(entry.name for entry in directory.path.iterdir())[:8]) or "nothing"
        raise ReportError(f"{directory.path}: holds no run (no {directory.metrics.name}); found {found}")
    config = _config(directory.config)
    began_with = _model_folder(directory, config)
    before = _cold_start(began_with)
    return Run(
        path=directory.path,
        config=config,
        metrics=directory.read_metrics(),
        predictions=jsonl.read_rows(directory.predictions),
        samples=jsonl.read_rows(directory.samples),
        summary=jsonl.read_object(directory.summary) if directory.summary.exists() else {},
        held_out_by_step=_by_step(jsonl.read_rows(directory.held_out)),
        evaluations=tuple(_evaluations(directory.path / EVALUATIONS)),
        environment=jsonl.read_object(directory.environment) if directory.environment.exists() else {},
        given_name=name,
        cold_start=_cold_start(cold_start_folder(directory)) or before,
        cold_start_config=_config(RunDirectory(began_with).config) if began_with and before else {},
    )


def _model_folder(run: RunDirectory, config: Mapping[str, Any]) -> Path | None:
    """The folder that ``model.path`` would be; None where a configuration names none.

    A relative path is one from where the run was started, which its own relative ``run.dir`` tells.
    """
    model, options = config.get("model"), config.get("run")
    path = str(model.get("path", "")) if isinstance(model, Mapping) else ""
    if not path:
        return None
    here = Path(str(options.get("dir", ""))) if isinstance(options, Mapping) else Path()
    whole = run.path.resolve()
    if here.parts and not here.is_absolute() and whole.parts[-len(here.parts) :] == here.parts:
        started_in = whole.parents[len(here.parts) - 1]
        if (started_in / path).exists():
            return started_in / path
    return Path(path).expanduser()


def _cold_start(folder: Path | None) -> Mapping[str, Any]:
    """The summary of the cold start that lies in a folder; empty where none does."""
    path = RunDirectory(folder).summary if folder else None
    summary = jsonl.read_object(path) if path and path.is_file() else {}
    return summary if "parsed_before" in summary else {}


def _evaluation_alone(path: Path) -> Run:
    evaluation = _read_evaluation(path)
    settings = evaluation.results.get("config", {})
    return Run(path=path, config={"model": settings.get("model", {})}, evaluations=(evaluation,))


def _config(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: is not valid YAML: {error}") from None
    return values if isinstance(values, dict) else {}


def _evaluations(folder: Path) -> Iterable[Evaluation]:
    for results in sorted(folder.rglob("results.json"), key=lambda path: _natural(path.parent.name)):
        yield _read_evaluation(results.parent)


def _read_evaluation(path: Path) -> Evaluation:
    store = EvaluationStore(path)
    results = jsonl.read_object(store.results)
    outcomes = {name: store.read_outcomes(name) for name in results.get("benchmarks", {})}
    return Evaluation(path.name, results, outcomes)


def _by_step(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Outcome]]:
    found: dict[int, list[Outcome]] = {}
    for row in rows:
        found.setdefault(int(row["step"]), []).append(outcome_from_row(row))
    return found


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts step-9 before step-10."""
    import re

    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
