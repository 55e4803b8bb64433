"""One training step: the paper's Algorithm 1 for one batch of problems (how it is rolled out: `masa.flow.flow`)."""

from __future__ import annotations

from masa.callbacks import Callbacks
from masa.config import Config
from masa.controls.batch import ShapedBatch
from masa.controls.cloning import clone_experts
from masa.evaluation.held_out import evaluate_held_out, record_held_out
from masa.flow.partial import put_aside_metrics
from masa.flow.rows import training_rows
from masa.flow.staleness import record_staleness
from masa.policy.objective.presets import Algorithm
from masa.preflight import Prepared
from masa.rewards.grading import GradedGroup
from masa.run_state import RunState
from masa.session import Session
from masa.tracking import keys
from masa.tracking.cost import record_step_cost
from masa.tracking.groups import record_groups
from masa.tracking.metrics import StepMetrics, timed
from masa.tracking.texts import with_shown_texts


class TrainingStep:
    """Takes the steps of an open ``session``, and evaluates; callbacks learn of it through ``run``."""

    def __init__(
        self,
        config: Config,
        algorithm: Algorithm,
        prepared: Prepared,
        session: Session,
        callbacks: Callbacks,
        run: RunState,
    ) -> None:
        self.config = config
        self.algorithm = algorithm
        self.prepared = prepared
        self.session = session
        self.callbacks = callbacks
        self.run = run

    def take(self, step: int) -> None:
        """One step of Algorithm 1. Its metrics are added to ``run.collected``."""
        session, run, metrics = self.session, self.run, self.run.collected
        run.step = step
        with timed(metrics, keys.STEP_SECONDS):
            self.callbacks.call("on_step_begin", run)
            with timed(metrics, "time/rollout"):
                run.batch = batch = ShapedBatch.of(session.rollouts.take(step))
            session.engine.sleep()
            self.callbacks.call("on_rollouts", run)

            # Correctness of the solutions; their statistics reward the metas: r_length, r_difficulty, r_notion, r_meta.
            with timed(metrics, "time/verify"):
                training = run.groups = session.gather(batch.grade(session.grader), batch.problems)
            metrics.sum("time/verify", batch.waited)
            if session.put_aside is not None:
                metrics.lasts(put_aside_metrics(batch))
            self.callbacks.call("on_rewards", run)

            # DAPO's dynamic sampling: groups whose rewards differ, and those carried over from the step before.
            if session.dynamic_sampling is not None:
                filled = session.dynamic_sampling.fill(run.groups, batch.rounds)
                training = filled.training
                metrics.lasts(filled.metrics)

            # Advantages within each group of either path, and the policy update over both.
            mask_cut = self.config.controls.cutoff.mask_cut
            gated = session.controls.reward_gated(step, batch.gated)
            parts = training_rows(
                training, self.algorithm.advantage, self.config.algorithm, mask_cut=mask_cut, gated=gated
            )
            with timed(metrics, "time/update"):
                metrics.lasts(session.updater.update(parts))

            # MASA-efficient: controls learn from the step, and the best meta-predictions are cloned.
            metrics.merge(session.controls.observe(step, batch, run.groups, gated))
            metrics.merge(clone_experts(step, session.controls, session.updater))
            with timed(metrics, "time/sync"):
                metrics.lasts(session.synchronise(step))
            self.callbacks.call("on_update", run)

        if (hidden := session.grader.hidden_seconds()) is not None:
            metrics.lasts({"time/verify_hidden": hidden})
        record_groups(metrics, run.groups, batch.gated, by_source=bool(self.prepared.weights))
        record_step_cost(metrics, session.shape, run.groups, batch, session.updater.take_trained_lengths())
        record_staleness(metrics, training, step)
        run.groups = with_shown_texts(run.groups, self.config.tracking.samples_per_step, session.gather_objects)
        metrics.lasts({f"reward/{name}": count for name, count in session.verifier_counters().items()})

    def evaluate(self, step: int) -> None:
        """Held-out accuracy and meta-awareness, added to ``run.collected``; nothing where nothing is held out."""
        if not self.prepared.evaluation:
            return
        run = self.run
        run.step = step
        self.callbacks.call("on_evaluate_begin", run)
        metrics, groups = measure_held_out(self.config, self.prepared, self.session)
        run.evaluation, run.evaluated = metrics.flatten(), groups
        run.collected.merge(metrics)
        self.callbacks.call("on_evaluate", run)


def measure_held_out(config: Config, prepared: Prepared, session: Session) -> tuple[StepMetrics, list[GradedGroup]]:
    """The metrics of an evaluation, and its graded problems, of all processes; nothing where nothing is held out."""
    metrics = StepMetrics()
    groups: list[GradedGroup] = []
    if prepared.evaluation:
        with timed(metrics, keys.EVALUATION_SECONDS):
            problems = session.share(prepared.evaluation)
            groups = evaluate_held_out(config, problems, prepared.builder, session.engine, session.grader)
            groups = session.gather(groups, prepared.evaluation)
            record_held_out(metrics, groups)
            metrics.lasts({f"eval/{name}": count for name, count in session.verifier_counters().items()})
        # What the engine says of evaluation is none of the next step's business.
        session.engine.statistics()
    return metrics, groups
