"""The folder of a cold start: a run directory whose steps are its updates, and the model that came out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masa.checkpointing import checkpoint
from masa.cold_start.examples import Examples
from masa.cold_start.solved import SolvedProblem
from masa.config import Config, dump_config
from masa.problems import Problem
from masa.rollout.engine import Rollout
from masa.tracking import jsonl, keys
from masa.tracking.in_use import made_and_in_use
from masa.tracking.metrics import StepMetrics, finite_values
from masa.tracking.resuming import refuse_another_run
from masa.tracking.run_directory import RunDirectory
from masa.tracking.samples import Sample

# What a checkpoint has beside the files of its model: this, and folders.
_TRAINING_STATE = "state.json"
PARSED, CORRECTNESS = "control/cold_start_parsed", "control/cold_start_correctness"
# A loss of accuracy beyond this is spoken of; a few dozen problems tell no smaller one from chance.
_LOSS_OF_ACCURACY = 0.05


class ColdStartRecords:
    """Reads and writes the folder of a cold start; processes but the first (``writes`` false) write nothing.

    ``metrics.jsonl`` has a row for each time that the held-out meta-predictions were measured, ``solved.jsonl`` one a
    problem. The folder itself holds the finished model, as `transformers` loads it.
    """

    def __init__(self, folder: Path, config: Config, say: Callable[[str], None], *, writes: bool) -> None:
        self.directory = RunDirectory(folder)
        self._config = config
        self._say = say
        self._writes = writes

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.directory.summary.exists()

    @property
    def can_resume(self) -> bool:
        """Whether there is a checkpoint that can be gone on from; else cloning begins again."""
        paths = [path for _, path in checkpoint.list_checkpoints(self.directory.checkpoints)]
        return not all(checkpoint.holds_model_alone(path) for path in paths)

    @property
    def last_row(self) -> dict[str, Any] | None:
        """The newest row of metrics; None where there is none."""
        return next(iter(self.directory.read_metrics()[-1:]), None)

    @property
    def _solved(self) -> Path:
        return self.directory.path / "solved.jsonl"

    @contextmanager
    def held(self, *, resume: bool) -> Iterator[None]:
        """`open`, and let no other process write to the folder meanwhile: for a cold start alone, for one within a run
        lies in the run's own directory.

        Raises:
            RunInUseError: another process is at work in it.
        """
        if not self._writes:
            yield
            return
        with made_and_in_use(self.directory.path, lambda: self.open(resume=resume)):
            yield

    def open(self, *, resume: bool) -> None:
        """Make the folder, or check that what lies there can be continued.

        Raises:
            RunExistsError: a cold start lies there and ``resume`` is false.
            RunFolderError: the folder cannot be made.
            ConfigError: the cold start there had another configuration.
        """
        if not self._writes:
            return
        if self.directory.check(resume=resume) and self.directory.config.exists():
            refuse_another_run(self.directory, self._config, self._say)
        self.directory.create(dump_config(self._config), resume=resume)
        self.directory.write_environment()

    def go_on_after(self, done: int | None) -> None:
        """Drop rows after the checkpoint of ``done`` updates; None: there is none, and cloning begins again."""
        if not self._writes:
            return
        if done is None:
            self.directory.summary.unlink(missing_ok=True)
        if not self.is_complete:
            self.directory.truncate_after(-1 if done is None else done)

    def read_solved(self) -> list[SolvedProblem]:
        """The problems that are solved already; the first process alone reads them."""
        return [SolvedProblem.of_row(row) for row in jsonl.read_rows(self._solved)] if self._writes else []

    def append_solved(self, solved: Sequence[SolvedProblem]) -> None:
        """Rows of ``solved.jsonl``."""
        if self._writes:
            # A kill may have torn the last line, behind which nothing could be read.
            jsonl.keep_rows(self._solved, lambda _: True)
            jsonl.append_rows(self._solved, [one.row() for one in solved])

    def append(self, updates: int, metrics: StepMetrics) -> None:
        """The row after so many updates."""
        if self._writes:
            self.directory.append_metrics(updates, metrics.flatten())

    def append_held_out(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The run's held-out problems, evaluated."""
        if self._writes:
            self.directory.append_held_out(rows)

    def append_sample(
        self, updates: int, problem: Problem, prompt: str, response: str, rollout: Rollout, parsed: bool
    ) -> None:
        """A held-out meta-prediction to be read by a person."""
        if self._writes:
            reward = {"parsed": float(parsed)}
            finished = rollout.finish_reason
            sample = Sample(updates, problem.id, "meta", prompt, response, reward, finished, problem.answer)
            self.directory.append_samples([sample])

    def finish(self, examples: Examples, parsed: float) -> None:
        """Write the summary, and put the model of the last checkpoint into the folder itself."""
        if not self._writes:
            return
        self._publish()
        rows = self.directory.read_metrics()
        section = self._config.cold_start
        shares = finite_values(rows, PARSED)
        correctness = finite_values(rows, CORRECTNESS)
        accuracy = finite_values(rows, keys.HELD_OUT_ACCURACY)
        summary = {
            "updates": rows[-1]["step"],
            "parsed_before": shares[0],
            "parsed_after": shares[-1],
            "until_parsed": section.until_parsed,
            "reached": parsed >= section.until_parsed,
            "correctness_before": correctness[0],
            "correctness_after": correctness[-1],
            # Of `problems.eval`; a run evaluates it after its cold start as its own step 0.
            **({"accuracy_before": accuracy[0]} if accuracy else {}),
            **({"accuracy_after": accuracy[-1]} if len(accuracy) > 1 else {}),
            "problems": section.problems,
            "held_out": section.held_out,
            "metas_cloned": len(examples),
            "metas_too_long": examples.too_long,
            "problems_with_cloned_solutions": examples.with_solution,
            "tokens_generated": int(sum(finite_values(rows, "cost/tokens_generated"))),
            "tokens_trained": int(sum(finite_values(rows, "cost/tokens_trained"))),
            "wall_seconds": sum(finite_values(rows, "time/cold_start")),
        }
        self.directory.write_summary(summary)

    def summary(self) -> dict[str, Any]:
        """What `finish` wrote; empty on processes that write nothing."""
        return jsonl.read_object(self.directory.summary) if self._writes else {}

    def outcome(self) -> str:
        """The result in a line; empty on processes that write nothing."""
        summary = self.summary()
        return outcome_line(summary) if summary else ""

    def _publish(self) -> None:
        _, newest = max(checkpoint.list_checkpoints(self.directory.checkpoints))
        for file in newest.iterdir():
            if file.is_dir() or file.name == _TRAINING_STATE:
                continue
            target = self.directory.path / file.name
            target.unlink(missing_ok=True)
            try:
                os.link(file, target)
            except OSError:  # a file system without links
                shutil.copyfile(file, target)


def outcome_line(summary: Mapping[str, Any]) -> str:
    """What ``summary`` (of `summary.json`) says, with what to do where the cold start failed or cost accuracy."""
    line = (
        f"Cold start: done after {summary['updates']} updates; of the held-out metas {summary['parsed_before']:.0%}"
        f" could be read before and {summary['parsed_after']:.0%} afterwards; solutions were correct in "
        f"{summary['correctness_before']:.1%} before and {summary['correctness_after']:.1%} afterwards"
    )
    before, after = summary.get("accuracy_before"), summary.get("accuracy_after")
    if before is not None and after is not None:
        line = f"{line}, those of problems.eval in {before:.1%} and {after:.1%}"
        if before - after > _LOSS_OF_ACCURACY:
            line = (
                f"{line}. Cloning cost accuracy: with more problems (cold_start.problems) or more solutions of each "
                "(algorithm.num_solutions) there are more correct ones to clone"
            )
    if not summary["reached"]:
        line = (
            f"{line}. cold_start.until_parsed {summary['until_parsed']} was not reached: raise cold_start.max_updates "
            "or cold_start.learning_rate, or rollout.max_meta_tokens where metas are cut off"
        )
    return line
