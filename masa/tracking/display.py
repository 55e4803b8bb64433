"""A run's progress on the terminal or in a notebook, as a callback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console

from masa.callbacks import Callback
from masa.rewards.grading import GradedGroup
from masa.run_state import RunState
from masa.tracking.banner import banner
from masa.tracking.progress import Progress

# A sample is replaced after a tenth of the steps; its texts are cut to so many characters.
_SAMPLES_A_RUN = 10
_LONGEST_TEXT = 240


class ProgressDisplay(Callback):
    """Shows steps and messages as they come; between two calls of `MASATrainer.steps` nothing is drawn.

    Args:
        console: where to.
        problems: how many there are to train on, and held out.
        estimate: the line that says how long the run will take; None of it where nothing is known.
    """

    def __init__(
        self,
        console: Console,
        *,
        problems: tuple[int, int],
        estimate: Callable[[RunState], str | None] = lambda run: None,
    ) -> None:
        self._console = console
        self._estimate = estimate
        self._problems = problems
        self._progress: Progress | None = None
        self._shown = ExitStack()

    def on_run_begin(self, run: RunState) -> None:
        earlier = run.directory.read_metrics()
        self._progress = Progress(run.total_steps, run.step, self._console, earlier=earlier)
        self._shown.enter_context(self._progress)
        run.say = self._progress.message
        for line in banner(run, *self._problems, self._estimate(run)):
            run.say(line)

    def on_step_begin(self, run: RunState) -> None:
        assert self._progress is not None
        self._progress.go_on()
        self._progress.phase("sampling")

    def on_rollouts(self, run: RunState) -> None:
        assert self._progress is not None
        self._progress.phase("verifying")

    def on_rewards(self, run: RunState) -> None:
        assert self._progress is not None
        self._progress.phase("updating")

    def on_evaluate_begin(self, run: RunState) -> None:
        assert self._progress is not None
        held_out = f"{self._problems[1]:,} held-out problems"
        self._progress.phase(f"evaluating {held_out}")
        if run.step == 0:
            self._progress.announce(f"Evaluating {held_out} before the first step")

    def on_log(self, run: RunState) -> None:
        assert self._progress is not None
        every = max(1, run.total_steps // _SAMPLES_A_RUN)
        if self._progress.shows_samples and run.groups and (run.step - run.start_step - 1) % every == 0:
            self._progress.sample(_sample(run.step, run.groups[0]))
        self._progress.phase("")
        self._progress.step(run.step, run.metrics)

    def on_run_end(self, run: RunState) -> None:
        self._shown.close()

    def pause(self) -> None:
        """Leave what is shown as it is, until the next step begins."""
        if self._progress is not None:
            self._progress.pause()


def _sample(step: int, group: GradedGroup) -> str:
    """A problem with its first solution and its first meta-prediction, and what they were found to be worth."""
    lines = [f"Problem in step {step}: {_cut(group.problem.statement)}"]
    if group.solution_texts:
        lines.append(f"Solution ({group.verdicts[0].status}): {_cut(group.solution_texts[0])}")
    if group.meta_texts:
        lines.append(f"Meta-prediction (r_meta {float(group.meta_rewards[0]):.2f}): {_cut(group.meta_texts[0])}")
    return "\n".join(lines)


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _LONGEST_TEXT else f"{one_line[:_LONGEST_TEXT]} ..."
