"""What a report is made from: run directories, and evaluations inside or beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from masa.evaluation.outcomes import Outcome, outcome_from_row
from masa.evaluation.store import EvaluationStore
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory

EVALUATIONS = "evaluation"
HELD_OUT_ROWS = "evaluation.jsonl"


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

    ``held_out`` are the problems of the last evaluation during training that wrote them down. A directory that holds
    an evaluation and no run has no metrics, and the model's name as its label.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    held_out: Sequence[Outcome] = ()
    evaluations: Sequence[Evaluation] = ()

    @property
    def seed(self) -> int | None:
        section = self.config.get("run")
        return section.get("seed") if isinstance(section, Mapping) else None


def read_run_directory(path: str | Path) -> Run:
    """The run (or the evaluation alone) that lies in a directory.

    Raises:
        ReportError: no directory, or one that holds neither.
        ValueError: a line in the middle of a file is no JSON object.
    """
    directory = RunDirectory(path)
    if not directory.path.is_dir():
        raise ReportError(f"{directory.path}: no such directory; a run directory or an evaluation's folder is needed")
    if (directory.path / "results.json").exists() and not directory.metrics.exists():
        return _evaluation_alone(directory.path)
    if not directory.metrics.exists():
        found = ", ".join(sorted(entry.name for entry in directory.path.iterdir())[:8]) or "nothing"
        raise ReportError(f"{directory.path}: holds no run (no {directory.metrics.name}); found {found}")
    return Run(
        path=directory.path,
        config=_config(directory.config),
        metrics=directory.read_metrics(),
        predictions=jsonl.read_rows(directory.predictions),
        samples=jsonl.read_rows(directory.samples),
        summary=jsonl.read_object(directory.summary) if directory.summary.exists() else {},
        held_out=_last_held_out(jsonl.read_rows(directory.path / HELD_OUT_ROWS)),
        evaluations=tuple(_evaluations(directory.path / EVALUATIONS)),
    )


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


def _last_held_out(rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    last = max((row["step"] for row in rows), default=None)
    return [outcome_from_row(row) for row in rows if row["step"] == last]


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts step-9 before step-10."""
    import re

    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
