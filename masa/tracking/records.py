"""Everything a run says and writes while it trains: rows, samples, progress, loggers, and its summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from accelerate import PartialState
from rich.console import Console

from masa.config import Config, ConfigError, config_from_mapping, differing_keys, dump_config
from masa.config.signs import SignName
from masa.rewards.failures import RewardFunctionError, first_failure
from masa.tracking.figures import draw_figures
from masa.tracking.groups import group_predictions, group_samples
from masa.tracking.loggers import CompositeLogger, make_logger
from masa.tracking.metrics import StepMetrics
from masa.tracking.outcome import summarize
from masa.tracking.progress import Progress
from masa.tracking.run_directory import RunDirectory
from masa.tracking.samples import choose_samples
from masa.tracking.summary import print_summary
from masa.tracking.warning_signs import describe_sign, signs_of

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem
    from masa.preflight import Prepared
    from masa.rewards.grading import GradedGroup

# A resumed run may be longer and may say more; any other difference would make it another run.
_FREE_TO_CHANGE = (
    "run.steps",
    "run.dir",
    "run.name",
    "checkpoint.",
    "tracking.",
    "rewards.verifier_workers",
    # Where servers are and how long to wait for them: a run that lost its servers goes on with others.
    "rollout.servers",
    "rollout.server_devices",
    "rollout.server_wait",
    "rollout.server_patience",
    "rollout.num_servers",
    "rollout.transfer_folder",
    "rollout.gpu_memory_utilization",
    "rollout.kv_cache_gb",
    "rollout.sleep_level",
    "evaluation.every",
    "run.timeout_minutes",
    "run.stop_when",
)
# How the same arithmetic is cut into pieces, as memory and machines demand.
_CHANGES_ROUNDING = (
    "optimizer.micro_batch_tokens",
    "optimizer.packing",
    "optimizer.share_prompts",
    "model.gradient_checkpointing",
    "model.liger_kernel",
    "rollout.max_batch_size",
    "rollout.enforce_eager",
    "run.threads",
)


class RunRecorder:
    """Writes one run's directory and shows its progress; on all processes but the first it does nothing.

    ``earlier`` is the configuration of the run that is resumed, as it was; None where there is none.
    """

    def __init__(self, config: Config, prepared: Prepared, steps: int, console: Console) -> None:
        self.directory = RunDirectory(config.run.dir)
        self._config = config
        self._prepared = prepared
        self._steps = steps
        self._console = console
        self._writes = PartialState().is_main_process
        self._progress: Progress | None = None
        self.earlier: Config | None = None
        self._logger = CompositeLogger()
        self._failure_is_told = False
        self._rows: list[dict[str, Any]] = []
        self._signs: list[SignName] = []

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Make the directory, or check that the run in it can be continued.

        A new run that fails before its first row leaves no directory, so that it can be started again.

        Raises:
            RunExistsError: it holds a run and ``resume`` is false.
            RunFolderError: it cannot be made.
            ConfigError: the run in it had another configuration, or has more steps than are asked for.
        """
        if not self._writes:
            yield
            return
        if self.directory.check(resume=resume) and self.directory.config.exists():
            self.earlier = refuse_another_run(
                self.directory, self._config, lambda line: self._console.print(line, highlight=False)
            )
            self._refuse_fewer_steps()
        continued = self.directory.create(dump_config(self._config), resume=resume)
        try:
            self.directory.write_environment({"training_problems": len(self._prepared.train)})
            for note in self._prepared.notes:
                self._console.print(note, highlight=False)
            yield
        except RewardFunctionError as error:
            self.directory.write_first_error(f"{error}\n\n{error.trace}")
            raise
        except BaseException:
            if not continued and not self.directory.metrics.exists():
                self.directory.forget()
            raise

    @contextmanager
    def recording(self, done: int | None) -> Iterator[None]:
        """Record steps after ``done`` (None: a run that begins); rows of steps that will be repeated are dropped."""
        if not self._writes:
            yield
            return
        last = max((row["step"] for row in self.directory.read_metrics()), default=0)
        self.directory.truncate_after(-1 if done is None else done)
        if done is not None and done >= self._steps:
            self._console.print(f"Nothing to do: the run has {done} of {self._steps} steps", highlight=False)
        section = self._config.tracking.wandb
        earlier = self.directory.read_metrics()
        self._rows = [row for row in earlier if row["step"] > 0]
        self._signs = signs_of(self._rows)
        with Progress(self._steps, done or 0, self._console, earlier=earlier) as self._progress:
            self._logger = make_logger(
                section.mode,
                project=section.project,
                name=section.name,
                folder=self.directory.path,
                config=self._config.model_dump(mode="json"),
                warn=self._progress.message,
            )
            if done is not None and done < self._steps:
                again = f"; step {done + 1} to step {last} are run again" if last > done else ""
                self.message(f"Resumed from the checkpoint of step {done} in {self.directory.checkpoints}{again}")
            try:
                yield
            finally:
                self._logger.finish()

    def write(
        self,
        step: int,
        metrics: StepMetrics,
        groups: Sequence[GradedGroup] = (),
        gated: Sequence[PredictedProblem] = (),
    ) -> None:
        """One step's rows; the metrics row goes last, so that its presence means the step is whole."""
        if not self._writes:
            return
        shown = groups[: self._config.tracking.samples_per_step]
        samples = group_samples(step, shown, self._prepared.builder.prompt_text)
        self.directory.append_samples(choose_samples(samples, len(shown)))
        self.directory.append_predictions(group_predictions(step, groups, gated))
        values = metrics.flatten()
        if step > 0:
            self._note_signs(step, values)
        self.directory.append_metrics(step, values)
        self._logger.log(step, values)
        assert self._progress is not None
        self._progress.step(step, values)

    def write_held_out(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The held-out problems of one evaluation, before the metrics row of its step."""
        if self._writes:
            self.directory.append_held_out(rows)

    def _note_signs(self, step: int, values: dict[str, float]) -> None:
        """Count the warning signs that hold after ``step`` in its metrics, and show those that are new."""
        self._rows.append({"step": step, **values})
        before, self._signs = self._signs, signs_of(self._rows)
        values["policy/warning_signs"] = float(len(self._signs))
        for name in self._signs:
            if name not in before:
                self.message(describe_sign(name, step))

    @property
    def stopping_sign(self) -> SignName | None:
        """The first sign of ``run.stop_when`` that holds after the newest step."""
        return next((name for name in self._signs if name in self._config.run.stop_when), None)

    def note_failures(self, groups: Sequence[GradedGroup]) -> None:
        """Show the first verdict of this start at which a verifier raised, and keep it as ``first_error.txt``."""
        failure = None if self._failure_is_told or not self._writes else first_failure(groups)
        if failure is None:
            return
        self._failure_is_told = True
        self.directory.write_first_error(f"{failure.line}\n\n{failure.trace}")
        self.message(f"{failure.line}\n{failure.trace}".rstrip())
        self.message(f"Further errors are counted under reward/verifier_errors; this one is in {self.directory.error}")

    def expect(self, key: str | None, evaluated: StepMetrics) -> None:
        """Say so where ``key`` should have been among what was evaluated, and is not: it may be misspelt."""
        known = sorted(evaluated.flatten())
        if key and key.startswith("eval/") and known and key not in known:
            self.message(f"checkpoint.best_metric {key} was not measured this time; measured: {', '.join(known)}")

    def message(self, text: str) -> None:
        """A line for whoever watches."""
        if self._progress is not None:
            self._progress.message(text)

    def finish(self) -> dict[str, Any]:
        """Write and show the summary, draw the figures; processes but the first get an empty one."""
        if not self._writes:
            return {}
        summary = summarize(self.directory.read_metrics())
        self.directory.write_summary(summary)
        print_summary(summary, self._console, figures=self._draw())
        return summary

    def _draw(self) -> Path | None:
        """Draw the figures; a run that has finished does not fail because a picture did."""
        if not self._config.tracking.figures:
            return None
        try:
            return self.directory.figures if draw_figures(self.directory.path) else None
        except Exception as error:
            self._console.print(f"The figures could not be drawn: {type(error).__name__}: {error}", highlight=False)
            return None

    def _refuse_fewer_steps(self) -> None:
        """A resumed run adds to what is recorded; it does not take steps back."""
        done = max((row["step"] for row in self.directory.read_metrics()), default=0)
        if done > self._steps:
            raise ConfigError(
                f"run.steps: found {self._steps}, but the run in {self.directory.path} has recorded {done} steps; "
                f"allowed with --resume: at least {done}"
            )


def refuse_another_run(directory: RunDirectory, config: Config, say: Callable[[str], None]) -> Config:
    """The configuration that the run in ``directory`` had; where only the rounding changed since, that is said.

    Raises:
        ConfigError: it differs from ``config`` in what makes it another run.
    """
    before = config_from_mapping(yaml.safe_load(directory.config.read_text(encoding="utf-8")), str(directory.config))
    changed = {
        key: values for key, values in differing_keys(before, config).items() if not key.startswith(_FREE_TO_CHANGE)
    }
    rounding = [key for key in changed if key in _CHANGES_ROUNDING]
    if changed and len(rounding) == len(changed):
        say(f"{', '.join(rounding)} changed: the run goes on as before but for the last bits of its numbers")
    elif changed:
        lines = [f"{key}: the run has {old!r}, found {new!r}" for key, (old, new) in changed.items()]
        raise ConfigError(
            f"{directory.path} cannot be resumed with another configuration; allowed to change: "
            f"{', '.join(name.rstrip('.') for name in (*_FREE_TO_CHANGE, *_CHANGES_ROUNDING))}\n" + "\n".join(lines)
        )
    return before
