"""The run directory: everything there is to know about a run, in files that survive a kill at any instant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from masa.tracking import jsonl
from masa.tracking.environment import describe_environment
from masa.tracking.samples import Prediction, Sample


class RunExistsError(FileExistsError):
    """A new run was asked for where an earlier one lies."""


class RunFolderError(OSError):
    """``run.dir`` cannot be a folder that is written to."""


class RunDirectory:
    """Layout of, and writing to, one run directory. Building one touches no file; ``create`` does.

    Within a step, samples and predictions are written first and the metrics row last, so a metrics row means that the
    step is complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._made: list[Path] = []

    @classmethod
    def claim(cls, path: Path) -> RunDirectory:
        """Make the folder of a new run; `forget` takes it back.

        Raises:
            FileExistsError: there is one.
            RunFolderError: it cannot be made.
        """
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise
        except OSError as error:
            raise RunFolderError(_cannot_be_made(path, error)) from error
        directory = cls(path)
        directory._made = [path]
        return directory

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.jsonl"

    @property
    def held_out(self) -> Path:
        return self.path / "evaluation.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def error(self) -> Path:
        return self.path / "first_error.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def check(self, *, resume: bool) -> bool:
        """Whether an earlier run lies here; touches nothing, so it can be asked before a model is loaded.

        Raises:
            RunExistsError: an earlier run lies here and ``resume`` is False.
            RunFolderError: the path, or a part of it, is a file.
        """
        for part in (self.path, *self.path.parents):
            if part.exists() and not part.is_dir():
                raise RunFolderError(f"run.dir is {self.path}, but {part} is a file; choose another run.dir")
        found = self._traces()
        if found and not resume:
            raise RunExistsError(
                f"{self.path} already holds a run ({', '.join(found)}). "
                "Continue it with --resume, or choose another run.dir"
            )
        return bool(found)

    def holds_run(self) -> bool:
        """Whether a run has left something here."""
        return bool(self._traces())

    def require_writable(self) -> None:
        """Whether the directory could be made, or written to, without making it.

        Raises:
            RunFolderError: it could not.
        """
        nearest = next(part for part in (self.path, *self.path.absolute().parents) if part.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise RunFolderError(f"run.dir is {self.path}, but {nearest} cannot be written to; choose another run.dir")

    def create(self, config_yaml: str, *, resume: bool) -> bool:
        """Make the directory and write the resolved configuration; returns whether an earlier run is continued.

        With ``resume`` and no earlier run, a new one begins. A resumed run's earlier configuration, where it differs,
        stays beside the new one as ``config.1.yaml``, ``config.2.yaml``, ...

        Raises:
            RunExistsError: an earlier run lies here and ``resume`` is False.
            RunFolderError: the path, or a part of it, is a file, or it cannot be made.
        """
        continued = self.check(resume=resume)
        try:
            for folder in (self.path, self.checkpoints, self.figures):
                self._made += [] if folder.exists() else [folder]
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(_cannot_be_made(self.path, error)) from error
        if self.config.exists():
            earlier = self.config.read_bytes()
            if earlier != config_yaml.encode():
                jsonl.write_atomically(self._free_config_name(), earlier)
        jsonl.write_atomically(self.config, config_yaml.encode())
        return continued

    def forget(self) -> None:
        """Take back what `create` and `write_environment` made of a new run, where no step has been recorded."""
        for path in (self.config, self.environment):
            path.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with suppress(OSError):  # something else lies there
                folder.rmdir()

    def truncate_after(self, step: int) -> dict[str, int]:
        """Drop all rows of later steps, and a torn last line, from the row files; returns rows left by file.

        Each file is replaced as a whole, so a kill in between leaves files that can be truncated again.

        Raises:
            ValueError: a line in the middle of a file is no JSON object, or a row has no whole-number ``step``.
        """
        files = (self.metrics, self.samples, self.predictions, self.held_out)
        return {path.name: _keep_until(path, step) for path in files}

    def append_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row of ``metrics.jsonl``; NaN and infinities are written as null."""
        jsonl.append_rows(self.metrics, [{"step": step, **metrics}])

    def append_samples(self, samples: Iterable[Sample]) -> None:
        """Rows of ``samples.jsonl``."""
        jsonl.append_rows(self.samples, [sample.row() for sample in samples])

    def append_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Rows of ``predictions.jsonl``."""
        jsonl.append_rows(self.predictions, [prediction.row() for prediction in predictions])

    def append_held_out(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of ``evaluation.jsonl``: each held-out problem of one evaluation."""
        jsonl.append_rows(self.held_out, rows)

    def read_metrics(self) -> list[jsonl.Row]:
        """The rows of ``metrics.jsonl`` so far, oldest first."""
        return jsonl.read_rows(self.metrics)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json`` as a whole."""
        jsonl.write_atomically(self.summary, jsonl.dump(summary, indent=2) + b"\n")

    def write_first_error(self, text: str) -> None:
        """Write ``first_error.txt``: what a verifier or a reward function raised first since the last start."""
        jsonl.write_atomically(self.error, text.rstrip().encode() + b"\n")

    def write_environment(self, extra: Mapping[str, Any] | None = None) -> None:
        """Write ``environment.json``: this start's environment and ``extra``, and those of earlier starts.

        A run that was resumed under other package versions says so under ``earlier_starts``.
        """
        earlier: list[Any] = []
        if self.environment.exists():
            before = jsonl.read_object(self.environment)
            earlier = [*before.pop("earlier_starts", []), before]
        record = {**describe_environment(), **(extra or {}), "earlier_starts": earlier}
        jsonl.write_atomically(self.environment, jsonl.dump(record, indent=2) + b"\n")

    def _traces(self) -> list[str]:
        """What an earlier run left here, in words."""
        found = [path.name for path in (self.config, self.summary) if path.exists()]
        if self.metrics.exists():
            rows = self.metrics.read_bytes().count(b"\n")
            found.append(f"{self.metrics.name} with {_count(rows, 'row')}")
        checkpoints = [path for path in self.checkpoints.glob("[!.]*") if path.is_dir()]
        if checkpoints:
            found.append(_count(len(checkpoints), "checkpoint"))
        return found

    def _free_config_name(self) -> Path:
        number = 1
        while (name := self.path / f"config.{number}.yaml").exists():
            number += 1
        return name


def _cannot_be_made(path: Path, error: OSError) -> str:
    return f"run.dir is {path}, which cannot be made: {error.strerror}; choose another run.dir"


def _keep_until(path: Path, step: int) -> int:
    return jsonl.keep_rows(path, lambda row: _step_of(row, path) <= step)


def _step_of(row: jsonl.Row, path: Path) -> int:
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError(f"{path}: a row has step {step!r}, a whole number is needed; its keys are {sorted(row)[:8]}")
    return step


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
