"""The directory of one evaluation: settings, samples as they came, details, results.

settings.json              what was asked for; a later start has to ask for the same
samples/<benchmark>.jsonl  one row a response, written as they come
details/<benchmark>.jsonl  one row a problem, made from the samples
results.json, results.md   made from the details
first_error.txt            only where a verifier raised: the first error, with its traceback
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masa.config import ConfigError
from masa.evaluation.measures.outcomes import Outcome, outcome_from_row
from masa.problems.problem import Problem
from masa.problems.statements import statement_key
from masa.rollout.engine import FinishReason, RolloutPath
from masa.tracking import jsonl

# What may differ between the starts of one evaluation: where things are, and how samples are scored.
FREE_SETTINGS = ("benchmarks", "files", "folder", "thresholds", "verifier", "resamples", "ks", "own")
# Likewise, of a benchmark of the user's own; the statements of its samples are compared one by one.
_FREE_DECLARED = ("title", "licence", "verifier", "source", "split", "columns")


@dataclass(frozen=True)
class StoredSample:
    """One response as it was generated; ``tokens`` counts the end-of-sequence token."""

    problem: str
    statement: str
    path: RolloutPath
    index: int
    response: str
    tokens: int
    finish_reason: FinishReason

    @property
    def key(self) -> tuple[str, RolloutPath, int]:
        return self.problem, self.path, self.index


class EvaluationStore:
    """Reads and writes one evaluation's directory. Building one touches no file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def table(self) -> Path:
        return self.path / "results.md"

    @property
    def error(self) -> Path:
        return self.path / "first_error.txt"

    def samples(self, benchmark: str) -> Path:
        return self.path / "samples" / f"{benchmark}.jsonl"

    def details(self, benchmark: str) -> Path:
        return self.path / "details" / f"{benchmark}.jsonl"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Write the settings; an evaluation that lies here must have been started with the same.

        Raises:
            ConfigError: as `check`.
        """
        self.check(settings)
        self.path.mkdir(parents=True, exist_ok=True)
        jsonl.write_atomically(self.settings, jsonl.dump(jsonl.plain(settings), indent=2) + b"\n")

    def check(self, settings: Mapping[str, Any]) -> None:
        """Whether an evaluation with these settings can begin or go on here; nothing is written.

        Raises:
            ConfigError: an evaluation with other settings lies here, or the path is a file.
        """
        for part in (self.path, *self.path.parents):
            if part.exists() and not part.is_dir():
                raise ConfigError(f"--out: {self.path} cannot be made, {part} is a file")
        wanted = jsonl.plain(settings)
        if self.settings.exists():
            before = jsonl.read_object(self.settings)
            changed = [
                f"{key}: it has {before.get(key)!r}, found {wanted.get(key)!r}"
                for key in dict.fromkeys([*before, *wanted])
                if key not in FREE_SETTINGS and before.get(key) != wanted.get(key)
            ]
            changed += _changed_declarations(_declared(before), _declared(wanted))
            if changed:
                raise ConfigError(
                    f"{self.path} holds an evaluation with other settings; choose another --out, or use the same "
                    "settings:\n" + "\n".join(changed)
                )

    def read_settings(self) -> dict[str, Any]:
        """The settings of the evaluation that lies here.

        Raises:
            ConfigError: none does.
        """
        if not self.settings.exists():
            raise ConfigError(f"{self.path} holds no evaluation: there is no {self.settings.name}")
        return jsonl.read_object(self.settings)

    def read_samples(
        self, benchmark: str, problems: Sequence[Problem]
    ) -> dict[tuple[str, RolloutPath, int], StoredSample]:
        """The samples so far, a torn last line removed from the file; those of other problems are left aside.

        Raises:
            ConfigError: a sample belongs to a problem whose statement has changed since.
        """
        path = self.samples(benchmark)
        jsonl.keep_rows(path, lambda row: True)
        statements = {problem.id: statement_key(problem.statement) for problem in problems}
        found: dict[tuple[str, RolloutPath, int], StoredSample] = {}
        for row in jsonl.read_rows(path):
            sample = StoredSample(**row)
            if statements.get(sample.problem, sample.statement) != sample.statement:
                raise ConfigError(
                    f"{path}: the samples of {sample.problem!r} answer another statement than the data hold now; "
                    "the data changed, so choose another --out"
                )
            if sample.problem in statements:
                found.setdefault(sample.key, sample)
        return found

    def append_samples(self, benchmark: str, samples: Iterable[StoredSample]) -> None:
        """Rows of one benchmark's samples, on the disk when this returns."""
        path = self.samples(benchmark)
        path.parent.mkdir(parents=True, exist_ok=True)
        jsonl.append_rows(path, [asdict(sample) for sample in samples])

    def write_first_error(self, text: str) -> None:
        """Write ``first_error.txt``: what a verifier raised first when the samples were scored last."""
        jsonl.write_atomically(self.error, text.rstrip().encode() + b"\n")

    def write_details(self, benchmark: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """One row a problem, as a whole."""
        path = self.details(benchmark)
        path.parent.mkdir(parents=True, exist_ok=True)
        jsonl.write_atomically(path, b"".join(jsonl.dump(row) + b"\n" for row in rows))

    def read_outcomes(self, benchmark: str) -> list[Outcome]:
        """What the details of a benchmark say; empty where it was not evaluated here."""
        return [outcome_from_row(row) for row in jsonl.read_rows(self.details(benchmark))]


def _declared(settings: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = settings.get("own", {}).get("benchmarks", {})
    return found


def _changed_declarations(
    before: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What would have been sampled otherwise of benchmarks that both declare."""
    return [
        f"benchmark {name}, {key}: it has {before[name].get(key)!r}, found {value!r}"
        for name in wanted
        if name in before
        for key, value in wanted[name].items()
        if key not in _FREE_DECLARED and before[name].get(key) != value
    ]
