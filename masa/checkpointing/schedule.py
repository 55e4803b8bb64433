"""When a run writes checkpoints of its own accord."""

from __future__ import annotations

from masa.callbacks import Callback
from masa.run_state import RunState


class CheckpointSchedule(Callback):
    """Asks for a checkpoint every ``checkpoint.every`` steps; the last step has one in any case."""

    def on_evaluate(self, run: RunState) -> None:
        """Say so where ``checkpoint.best_metric`` was not measured before the first step: it may be misspelt."""
        key, known = run.config.checkpoint.best_metric, sorted(run.evaluation)
        if run.step == 0 and key and key.startswith("eval/") and known and key not in known:
            run.message(f"checkpoint.best_metric {key} was not measured this time; measured: {', '.join(known)}")

    def on_step_end(self, run: RunState) -> None:
        every = run.config.checkpoint.every
        if every > 0 and run.step % every == 0:
            run.save()
