"""A run read from its directory: configuration, metrics, samples, predictions, evaluations and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa.checkpointing.checkpoint import list_checkpoints
from masa.config import Config, load_config
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas


class NoRunError(ValueError):
    """A folder that holds no run."""


def load_run(path: str | Path) -> Run:
    """The run in a run directory, finished or not; its files are read when they are asked for.

    Raises:
        NoRunError: the folder is not there, or holds no run.
    """
    directory = RunDirectory(path)
    if not directory.config.is_file():
        found = sorted(entry.name for entry in directory.path.iterdir())[:8] if directory.path.is_dir() else None
        what = "is no folder" if found is None else f"holds no run, found {', '.join(found) or 'nothing'}"
        raise NoRunError(f"{directory.path} {what}; allowed: a run directory, in which {directory.config.name} lies")
    return Run(directory)


class Run:
    """What a run directory holds. Each table is read once; `load_run` again sees what was written since."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @cached_property
    def config(self) -> Config:
        """The configuration that the run was started with, or last resumed with.

        Raises:
            ConfigError: it is none of this version.
        """
        return load_config(self._directory.config)

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """metrics.jsonl: one row a step, indexed by ``step``; step 0 is the evaluation before training."""
        return _frame(self._directory.read_metrics(), ["step"]).set_index("step")

    @cached_property
    def samples(self) -> pandas.DataFrame:
        """samples.jsonl: one row a response, with a column ``reward/NAME`` for each of its rewards."""
        rows = [_spread(row, "reward") for row in jsonl.read_rows(self._directory.samples)]
        return _frame(rows, ["step", "problem", "path", "response"])

    @cached_property
    def predictions(self) -> pandas.DataFrame:
        """predictions.jsonl: one row a problem and step; what its metas predicted beside what its solutions showed."""
        return _frame(jsonl.read_rows(self._directory.predictions), ["step", "problem", "pass_rate"])

    @cached_property
    def held_out(self) -> pandas.DataFrame:
        """evaluation.jsonl: one row a held-out problem and evaluation during training."""
        return _frame(jsonl.read_rows(self._directory.held_out), ["step", "problem"])

    @cached_property
    def evaluations(self) -> pandas.DataFrame:
        """One row a metric of each evaluation: ``evaluation``, ``benchmark``, ``metric``, ``value``, ``low``, ``high``.

        ``evaluation`` is ``step-N``: those during training, whose benchmark is ``held out`` and which have no
        interval, and those of `masa.evaluate` on checkpoints, with their 95 % intervals.
        """
        rows = [*_during_training(self._directory.read_metrics()), *_afterwards(self.path / "evaluation")]
        return _frame(rows, ["evaluation", "benchmark", "metric", "value", "low", "high"])

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The folder of each checkpoint that is there, by its step, oldest first."""
        return dict(sorted(list_checkpoints(self._directory.checkpoints)))

    @property
    def summary(self) -> dict[str, Any] | None:
        """summary.json; None where the run has not come to its end."""
        path = self._directory.summary
        return jsonl.read_object(path) if path.exists() else None

    def __repr__(self) -> str:
        rows, checkpoints = self._directory.read_metrics(), self.checkpoints
        steps = max((row["step"] for row in rows), default=0)
        end = "finished" if self.summary is not None else "not finished"
        return f"Run({str(self.path)!r}, {steps} steps, {end}, {len(checkpoints)} checkpoints)"

    def _repr_html_(self) -> str:
        facts = {**(self.summary or {}), "checkpoints": ", ".join(map(str, self.checkpoints)) or "none"}
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(_shown(value))}</td></tr>" for name, value in facts.items()
        )
        return f"<b>{escape(str(self.path))}</b><table>{rows}</table>"


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    """The rows as a table; one without rows has ``columns`` all the same."""
    import pandas

    return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=columns)


def _spread(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    inner = {f"{key}/{name}": value for name, value in row.get(key, {}).items()}
    return {name: value for name, value in row.items() if name != key} | inner


def _during_training(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for key, value in row.items():
            if key.startswith("eval/"):
                name = {"evaluation": f"step-{row['step']}", "benchmark": "held out"}
                yield {**name, "metric": key.removeprefix("eval/"), "value": value, "low": None, "high": None}


def _afterwards(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*/results.json")):
        for benchmark, found in jsonl.read_object(path)["benchmarks"].items():
            groups = {"": found["metrics"], "meta/": found.get("meta", {}).get("metrics", {})}
            for prefix, metrics in groups.items():
                for metric, one in metrics.items():
                    name = {"evaluation": path.parent.name, "benchmark": benchmark, "metric": f"{prefix}{metric}"}
                    yield {**name, "value": one["value"], "low": one["low"], "high": one["high"]}


def _shown(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
