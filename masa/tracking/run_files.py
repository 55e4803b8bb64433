"""The files of a run directory, written as the run goes."""

from __future__ import annotations

from masa.callbacks import Callback
from masa.evaluation.held_out import held_out_rows
from masa.rollout.requests import RequestBuilder
from masa.run_state import RunState
from masa.tracking.groups import group_predictions, group_samples
from masa.tracking.samples import choose_samples


class RunFiles(Callback):
    """Writes the rows of each step, and of each evaluation, as they come."""

    def __init__(self, builder: RequestBuilder) -> None:
        self._prompt_text = builder.prompt_text

    def on_evaluate(self, run: RunState) -> None:
        """The held-out problems, before the metrics row of their step."""
        run.directory.append_held_out(held_out_rows(run.step, run.evaluated))

    def on_log(self, run: RunState) -> None:
        """The metrics row goes last, so that its presence means the step is whole."""
        if run.step > 0 and run.batch is not None:
            shown = run.groups[: run.config.tracking.samples_per_step]
            samples = group_samples(run.step, shown, self._prompt_text)
            run.directory.append_samples(choose_samples(samples, len(shown)))
            run.directory.append_predictions(group_predictions(run.step, run.groups, run.batch.gated))
        run.directory.append_metrics(run.step, run.metrics)

    def on_run_end(self, run: RunState) -> None:
        if run.summary is not None:
            run.directory.write_summary(run.summary)
