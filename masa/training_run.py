"""A run from its first step to its last: what is opened for it, the order of its steps, and how it ends."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from masa.answering import Answering
from masa.callbacks import Callback, Callbacks
from masa.checkpointing.checkpoint import checkpoint_path, require_resumable
from masa.checkpointing.schedule import CheckpointSchedule
from masa.cold_start.folder import cold_start_folder, cold_start_metrics
from masa.cold_start.run import cold_start_within
from masa.config import Config
from masa.distributed.together import from_first
from masa.planning.estimate import estimated_time
from masa.policy.update.optimizer import describe_new_decay
from masa.preflight import longest_prompt, total_steps
from masa.publishing.callback import HubUploads
from masa.run_parts import CHECKING, RunParts
from masa.run_state import RunState
from masa.tracking.display import ProgressDisplay
from masa.tracking.failure_notes import FailureNotes
from masa.tracking.loggers import Trackers
from masa.tracking.metrics import StepMetrics, timed
from masa.tracking.opening import OpenDirectory, open_directory
from masa.tracking.outcome import summarize
from masa.tracking.run_directory import RunDirectory, RunFolderError
from masa.tracking.run_files import RunFiles
from masa.tracking.run_folder import directory_to_resume, fresh_directory
from masa.tracking.summary import close_with_summary
from masa.tracking.warning_signs import WarningSigns
from masa.tracking.working import working
from masa.training_step import TrainingStep

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_OPEN: weakref.WeakSet[TrainingRun] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that ends between two steps leaves no engine and no worker behind."""
    for run in list(_OPEN):
        run.close()


class TrainingRun:
    """One start of a run: `open` it, take the steps that are `left`, `rest` between them, and `close` it."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self.directory: RunDirectory | None = None
        self.outcome: dict[str, Any] = {}
        self.model: PreTrainedModel | None = None
        self.is_open = False
        self._has_ended = False
        self._saved = 0
        self._unnamed: int | None = None  # the step of a checkpoint that is being written

    def open(self, *, resume: bool) -> None:
        """Begin; nothing is loaded before the first of the steps that are `left` is taken."""
        self.is_open = True
        self.left = self._until_closed(resume)
        _OPEN.add(self)

    def close(self) -> None:
        """Close what is open. A step that has been taken is in a checkpoint if `rest` was called after it."""
        self.left.close()
        self.is_open = False

    def rest(self) -> None:
        """After a step: write a checkpoint of it and draw nothing more, or, after the last one, end the run."""
        if self._has_ended:
            for _ in self.left:
                raise AssertionError("a step after the last one")
        elif self.is_open and self.model is not None:
            if self._saved < self.state.step:
                self._save(wait=True)
            else:
                self.session.settle_checkpoint(wait=True)
                self._tell_if_saved()
            self._display.pause()

    def answering(self) -> Answering:
        """Whoever answers for the policy after the newest step."""
        session = self.session
        session.rollouts.wait()
        return Answering(self._parts.config, session.engine, self._parts.prepared.builder, session.grader)

    def _until_closed(self, resume: bool) -> Generator[dict[str, float], None, None]:
        try:
            yield from self._steps(resume=resume)
        finally:
            self.is_open = False

    def _steps(self, *, resume: bool) -> Generator[dict[str, float], None, None]:
        """Take one step after another, and yield the metrics of each; `outcome` is there afterwards.

        Raises: as `MASATrainer.train`.
        """
        parts = self._parts
        process = parts.join()
        directory = self.directory = _choose_directory(parts.config, resume, first=process.is_main_process)
        run_section = parts.config.run.model_copy(update={"dir": str(directory.path)})
        parts = self._parts = replace(parts, config=parts.config.model_copy(update={"run": run_section}))
        if parts.config.cold_start.enabled:
            RunDirectory(cold_start_folder(directory)).check(resume=resume)
        if resume:
            require_resumable(directory.checkpoints)
        with (
            self._directory(directory, resume, first=process.is_main_process) as opened,
            parts.opened_session(first=process.is_main_process) as self.session,
        ):
            yield from self._steps_within(opened, resume, first=process.is_main_process)
        if process.is_main_process and self.state.summary is not None:
            close_with_summary(self.state.summary, directory, parts.console, parts.config)

    def _steps_within(self, opened: OpenDirectory, resume: bool, *, first: bool) -> Iterator[dict[str, float]]:
        parts, session = self._parts, self.session
        sampler = self._sampler = parts.sampler()
        state = self._new_state(opened.directory, first=first)
        callbacks = self._callbacks = self._make_callbacks(first=first)
        step = TrainingStep(parts.config, parts.algorithm, parts.prepared, session, callbacks, state)
        started = StepMetrics()
        with timed(started, "time/start_check"), working(parts.console if first else None, CHECKING):
            lines = session.check_at_start()
        session.sample_from(sampler)
        # After the check: the engine's caches of its prompts go with the weights that it is given here.
        done = session.restore(opened.directory, sampler) if resume else None
        again = self._drop_later_rows(opened.directory, done) if first else ""
        state.step = state.start_step = self._saved = done or 0
        self.model = session.model
        with callbacks.running(state):
            for line in (*lines, *self._notes_of_resuming(opened, done, again)):
                state.message(line)
            if done is None:
                if not self._cold_start(opened.directory, resume):
                    return
                step.evaluate(0)
                if parts.config.cold_start.enabled:
                    state.collected.lasts(cold_start_metrics(opened.directory))
                callbacks.call("on_log", state)
            for number in range((done or 0) + 1, parts.steps + 1):
                state.collected, started = started, StepMetrics()
                step.take(number)
                session.settle_checkpoint()
                self._tell_if_saved()
                if self._evaluation_is_due(number):
                    step.evaluate(number)
                callbacks.call("on_step_end", state)
                callbacks.call("on_log", state)
                self._has_ended = self._end_step(number, callbacks)
                yield state.metrics
                if self._has_ended:
                    break
            if not self.outcome:
                self._summarize(opened.directory)

    def _cold_start(self, directory: RunDirectory, resume: bool) -> bool:
        """The cold start before the first step, where there is one; False where SIGTERM ended it, and so the run."""
        state = self.state
        done = cold_start_within(self._parts, self.session, self._sampler, directory, state.message, resume=resume)
        if not done:
            state.message("Stopped by SIGTERM in the cold start; continue with --resume")
            self.outcome = {"steps": 0, "stopped_by": "SIGTERM"}
        return done

    def _end_step(self, step: int, callbacks: Callbacks) -> bool:
        """Save where that is due, asked for, or the end; whether the run ends here, the same on all processes."""
        session, state = self.session, self.state
        terminated = step < self._parts.steps and session.asked_to_stop()
        requests = session.gather_objects([state.take_requests()])
        reason = next((reason for reason, _ in requests if reason is not None), None)
        ends = terminated or reason is not None or step == self._parts.steps
        if ends or any(save for _, save in requests):
            self._save(wait=ends)
        if terminated:
            alone = self._parts.config.checkpoint.contents == "model"
            goes_on = "from the newest checkpoint that holds more than the model" if alone else "from there"
            state.message(f"Stopped by SIGTERM after step {step}; --resume continues {goes_on}")
            self.outcome = {"steps": step, "stopped_by": "SIGTERM"}
        elif reason is not None:
            state.message(f"Stopped after step {step}: {reason}")
        return ends

    def _save(self, *, wait: bool) -> None:
        """Write a checkpoint of the newest step; without ``wait`` in the background, where that is asked for."""
        state = self.state
        why = self.session.save(state.directory, state.step, self._sampler, state.metrics, wait=wait)
        self._tell_checkpoint(self._unnamed)  # saving waits for the one before
        self._saved = self._unnamed = state.step
        if why is not None:
            state.message(why)
        self._tell_if_saved()

    def _tell_if_saved(self) -> None:
        if not self.session.is_saving:
            self._tell_checkpoint(self._unnamed)

    def _tell_checkpoint(self, step: int | None) -> None:
        if step is not None:
            self.state.checkpoint = checkpoint_path(self.state.directory.checkpoints, step)
            self._unnamed = None
            self._callbacks.call("on_checkpoint", self.state)

    def _summarize(self, directory: RunDirectory) -> None:
        """What the run came to; processes but the first get an empty summary."""
        if self.state.is_main_process:
            self.state.summary = self.outcome = summarize(directory.read_metrics())

    def _new_state(self, directory: RunDirectory, *, first: bool) -> RunState:
        parts = self._parts
        self.state = RunState(
            config=parts.config,
            directory=directory,
            total_steps=parts.steps,
            is_main_process=first,
            say=lambda text: parts.console.print(text, highlight=False, markup=False, soft_wrap=True),
            model=self.session.model,
            tokenizer=parts.prepared.tokenizer,
        )
        return self.state

    def _make_callbacks(self, *, first: bool) -> Callbacks:
        """The project's own, of which those that write and show belong to the first process, and then the user's."""
        parts = self._parts
        prepared = parts.prepared
        problems = len(prepared.train), len(prepared.evaluation)
        self._display = ProgressDisplay(parts.console, problems=problems, estimate=self._estimated_time)
        # Events at the end come in reverse order: an upload has all that the others have written.
        uploads: list[Callback] = [HubUploads()] if parts.config.hub.repo else []
        writing: list[Callback] = [
            *uploads,
            WarningSigns(parts.config.run.stop_when),
            RunFiles(parts.prepared.builder),
            Trackers(parts.prepared.builder),
            self._display,
        ]
        return Callbacks([FailureNotes(), *(writing if first else ()), CheckpointSchedule(), *parts.callbacks])

    def _estimated_time(self, state: RunState) -> str | None:
        prepared = self._parts.prepared
        return estimated_time(
            state.config,
            self.session.model.config,
            longest=longest_prompt(state.config, prepared.builder, [*prepared.train, *prepared.evaluation]),
            held_out=len(prepared.evaluation),
            steps=(state.step, state.total_steps),
            recorded=state.directory.read_metrics(),
        )

    def _directory(
        self, directory: RunDirectory, resume: bool, *, first: bool
    ) -> AbstractContextManager[OpenDirectory]:
        parts = self._parts
        if not first:
            return nullcontext(OpenDirectory(directory))
        return open_directory(
            parts.config,
            directory,
            parts.steps,
            training_problems=len(parts.prepared.train),
            notes=parts.prepared.notes,
            console=parts.console,
            resume=resume,
        )

    def _drop_later_rows(self, directory: RunDirectory, done: int | None) -> str:
        """Rows of steps that will be repeated go; says which those are."""
        last = max((row["step"] for row in directory.read_metrics()), default=0)
        directory.truncate_after(-1 if done is None else done)
        return "" if done is None else run_again(done, last)

    def _notes_of_resuming(self, opened: OpenDirectory, done: int | None, again: str) -> list[str]:
        """Where a resumed run goes on, and what it does otherwise than it would have done at its earlier length."""
        if done is None:
            return []
        parts = self._parts
        if done >= parts.steps:
            return [f"Nothing to do: the run has {done} of {parts.steps} steps"]
        lines = [f"Resumed from the checkpoint of step {done} in {opened.directory.checkpoints}{again}"]
        if opened.earlier is not None:
            each = parts.config.algorithm.updates_per_step
            before = total_steps(opened.earlier, parts.prepared.train) * each
            updates = self.session.updater.updates_done
            new_decay = describe_new_decay(parts.config.optimizer, before, parts.steps * each, updates)
            lines += [new_decay] if new_decay else []
        return lines

    def _evaluation_is_due(self, step: int) -> bool:
        every = self._parts.config.evaluation.every
        return step == self._parts.steps or (every > 0 and step % every == 0)


def _choose_directory(config: Config, resume: bool, *, first: bool) -> RunDirectory:
    """The run directory that the first process chooses, on all processes.

    Raises:
        RunFolderError: it cannot be made.
    """
    chosen: list[RunDirectory] = []

    def choose() -> str:
        chosen.append(directory_to_resume(config) if resume else fresh_directory(config))
        return str(chosen[0].path)

    path = from_first(choose, RunFolderError, first=first)
    # The first process keeps its own: it knows whether it has made the folder.
    return chosen[0] if chosen else RunDirectory(path)


def run_again(done: int, last: int) -> str:
    """The end of a line about a resumed run, whose checkpoint is of step ``done`` and whose newest row of ``last``."""
    if last <= done:
        return ""
    return f"; step {last} is run again" if last == done + 1 else f"; steps {done + 1} to {last} are run again"
