"""MASATrainer: the loop that the rest of the package serves.

    problems -> prompts -> engine -> rollouts -> verifier -> group statistics -> r_meta
                             ^                                    |               |
                             +--- weights <--- policy update <--- advantages of both paths

A step waits for three things in turn: the engine (rollouts), the verifier's workers (correctness), the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from masa.checkpoint import require_resumable
from masa.cold_start.folder import cold_start_folder, cold_start_metrics
from masa.cold_start.phase import ColdStart
from masa.cold_start.records import ColdStartRecords
from masa.config import Config, ConfigError, load_config
from masa.controls.cloning import clone_experts
from masa.controls.rollouts import ShapedBatch, roll_out_metas_first, roll_out_problems, roll_out_together
from masa.evaluation.held_out import evaluate_held_out, held_out_rows, record_held_out
from masa.policy.algorithm import resolve_algorithm
from masa.policy.dynamic_sampling import Draw
from masa.policy.optimizer import describe_new_decay
from masa.policy.own_model import check_model_object, check_tokenizer_object, own_tokenizer
from masa.policy.processes import join_processes, require_precise_updates
from masa.policy.rows import training_rows
from masa.preflight import prepare, total_steps
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.problems.sources import make_sampler
from masa.rewards.failures import require_working_verifier
from masa.rewards.grading import GradedGroup
from masa.rewards.own_parts import RewardFunction, Verifier, check_verifier_object, checked_reward_functions
from masa.rollout.ahead import StepBatch, require_correction
from masa.rollout.factory import require_divided_processes
from masa.rollout.statistics import record_staleness
from masa.session import Session
from masa.tracking import keys
from masa.tracking.cost import record_step_cost
from masa.tracking.groups import record_groups
from masa.tracking.metrics import StepMetrics, timed
from masa.tracking.records import RunRecorder
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MASATrainer:
    """Trains a policy with MASA, or with plain GRPO where ``algorithm.meta`` is false.

    Args:
        config: a `Config`, or the path of a YAML file.
        model: a causal language model in place of the one that ``model.path`` names. It is trained in place.
        tokenizer: its tokenizer, likewise; without it, the one that lies where ``model`` was loaded from.
        problems: training problems in place of ``problems.train``; mappings are read like the rows of a file.
        eval_problems: held-out problems in place of ``problems.eval``.
        verifier: judges answers in place of the pool of isolated workers; needs a ``verify(items)`` method.
        reward_functions: ``(problem, response text) -> number`` each, added to the correctness of a solution.
        console: where progress is shown.

    Raises:
        ConfigError: a mistake in the configuration.
        ProblemDataError: a mistake in a problem file.
        TypeError: an object that is none of what is asked for.
    """

    def __init__(
        self,
        config: Config | str | Path,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        problems: Sequence[Problem | Mapping[str, Any]] | None = None,
        eval_problems: Sequence[Problem | Mapping[str, Any]] | None = None,
        verifier: Verifier | None = None,
        reward_functions: Sequence[RewardFunction] = (),
        console: Console | None = None,
    ) -> None:
        own_rewards = checked_reward_functions(reward_functions)
        if verifier is not None:
            check_verifier_object(verifier)
        if model is not None:
            check_model_object(model)
        if tokenizer is not None:
            check_tokenizer_object(tokenizer)
        self.config = config if isinstance(config, Config) else load_config(config)
        self.algorithm = resolve_algorithm(self.config.algorithm)
        require_correction(self.config.rollout.async_steps, self.algorithm.loss.engine_correction is not None)
        self.prepared = prepare(
            self.config,
            tokenizer=tokenizer if tokenizer is not None or model is None else own_tokenizer(model, self.config.model),
            problems=problems,
            eval_problems=eval_problems,
            own_verifier=verifier is not None,
            model_config=None if model is None else model.config,
        )
        self.steps = total_steps(self.config, self.prepared.train)
        self.console = console or Console()
        self._model = model
        self._verifier = verifier
        self._reward_functions = own_rewards

    def train(self, *, resume: bool = False) -> dict[str, Any]:
        """Run all steps; returns the summary, which is also ``summary.json``.

        With ``resume`` the run in ``run.dir`` goes on from its newest checkpoint, as if it had never stopped; where
        there is none yet, it begins.

        SIGTERM lets the step end, writes a checkpoint and returns the number of steps done in place of a summary.

        Raises:
            RunExistsError: ``run.dir`` holds a run and ``resume`` is false.
            ConfigError: the run to resume had another configuration, or the model cannot be loaded.
            CheckpointError: a checkpoint cannot be written, or none of those to resume from is whole or holds more
                than the model.
            DivergedError: several updates in a row had no finite gradient.
            VerifierFailedError: the verifier raised on every response of a step or of an evaluation.
            RewardFunctionError: a reward function raised.
        """
        state = join_processes(self.config.run.timeout_minutes)
        require_precise_updates(self.config.model, self._model)
        require_divided_processes(self.config.rollout, state.num_processes)
        recorder = RunRecorder(self.config, self.prepared, self.steps, self.console)
        if self.config.cold_start.enabled:
            RunDirectory(cold_start_folder(recorder.directory)).check(resume=resume)
        if resume:
            require_resumable(recorder.directory.checkpoints)
        with recorder.opened(resume=resume), self._session() as session:
            sampler = self._sampler()
            started = StepMetrics()
            with timed(started, "time/start_check"):
                lines = session.check_at_start()
            session.sample_with(lambda step: self._sample(step, session, sampler))
            # After the check: the engine's caches of its prompts go with the weights that it is given here.
            done = session.restore(recorder.directory, sampler) if resume else None
            with recorder.recording(done):
                for note in (*lines, *self._notes_of_resuming(recorder, session, done)):
                    recorder.message(note)
                if done is None:
                    if not self._cold_start_within(session, sampler, recorder, resume=resume):
                        recorder.message("Stopped by SIGTERM in the cold start; --resume goes on from there")
                        return {"steps": 0, "stopped_by": "SIGTERM"}
                    before = self._evaluate(0, session, recorder)
                    if self.config.cold_start.enabled:
                        before.lasts(cold_start_metrics(recorder.directory))
                    recorder.write(0, before)
                    recorder.expect(self.config.checkpoint.best_metric, before)
                for step in range((done or 0) + 1, self.steps + 1):
                    metrics = self._step(step, session, sampler, recorder, started)
                    session.settle_checkpoint()
                    started = StepMetrics()
                    stopping = step < self.steps and session.asked_to_stop()
                    sign = next((one for one in session.gather_objects([recorder.stopping_sign]) if one), None)
                    ends = stopping or sign is not None or step == self.steps
                    if ends or self._checkpoint_is_due(step):
                        waits = session.save(recorder.directory, step, sampler, metrics, wait=ends)
                        if waits is not None:
                            recorder.message(waits)
                    if stopping:
                        alone = self.config.checkpoint.contents == "model"
                        goes_on = "from the newest checkpoint that holds more than the model" if alone else "from there"
                        recorder.message(f"Stopped by SIGTERM after step {step}; --resume goes on {goes_on}")
                        return {"steps": step, "stopped_by": "SIGTERM"}
                    if sign:
                        recorder.message(f"Stopped after step {step} by run.stop_when: {sign}")
                        break
        return recorder.finish()

    def cold_start(self, out: str | Path, *, resume: bool = False) -> dict[str, Any]:
        """Do the cold start of ``cold_start`` alone; ``out`` holds the model afterwards, and how it came about.

        Returns its summary; where SIGTERM ended it before that, only what did.

        Raises:
            RunExistsError: ``out`` holds one and ``resume`` is false.
            ConfigError: ``cold_start.enabled`` is false, the one to resume had another configuration, or the model
                cannot be loaded.
            CheckpointError: a checkpoint cannot be written or read.
            DivergedError: several updates in a row had no finite gradient.
            VerifierFailedError: the verifier raised on every response.
        """
        if not self.config.cold_start.enabled:
            raise ConfigError("cold_start.enabled: found False, allowed for a cold start: true")
        state = join_processes(self.config.run.timeout_minutes)
        require_precise_updates(self.config.model, self._model)
        require_divided_processes(self.config.rollout, state.num_processes)

        def say(line: str) -> None:
            if state.is_main_process:
                self.console.print(line, highlight=False)

        for note in self.prepared.notes:
            say(note)
        records = ColdStartRecords(Path(out), self.config, say, writes=state.is_main_process)
        records.open(resume=resume)
        with self._session() as session:
            sampler = self._sampler()
            session.sample_with(lambda step: self._sample(step, session, sampler))
            for line in session.check_at_start():
                say(line)

            phase = ColdStart(self.config, self.prepared, session, records, self._measure_held_out, say)
            if not phase.run(sampler, resume=resume, evaluate_after=True):
                say("Stopped by SIGTERM; --resume goes on from there")
                return {"stopped_by": "SIGTERM"}
        return records.summary()

    def _cold_start_within(self, session: Session, sampler: Sampler, recorder: RunRecorder, *, resume: bool) -> bool:
        """The cold start of a run, where there is one; False where SIGTERM ended it."""
        if not self.config.cold_start.enabled:
            return True
        folder, writes = cold_start_folder(recorder.directory), session.accelerator.is_main_process
        records = ColdStartRecords(folder, self.config, recorder.message, writes=writes)
        records.open(resume=resume)
        phase = ColdStart(self.config, self.prepared, session, records, self._measure_held_out, recorder.message)
        # Step 0 of the run evaluates what came out of it.
        return phase.run(sampler, resume=resume, evaluate_after=False)

    def _session(self) -> Session:
        return Session(
            self.config,
            self.algorithm,
            self.prepared,
            self.steps,
            model=self._model,
            verifier=self._verifier,
            reward_functions=self._reward_functions,
        )

    def _sampler(self) -> Sampler:
        return make_sampler(
            self.prepared.train,
            self.prepared.weights,
            self.prepared.part_of,
            self.config.algorithm.num_problems,
            self.config.run.seed,
        )

    def _notes_of_resuming(self, recorder: RunRecorder, session: Session, done: int | None) -> list[str]:
        """What a resumed run does otherwise than it would have done at its earlier length."""
        if done is None or recorder.earlier is None:
            return []
        each = self.config.algorithm.updates_per_step
        before = total_steps(recorder.earlier, self.prepared.train)
        line = describe_new_decay(self.config.optimizer, before * each, self.steps * each, session.updater.updates_done)
        return [line] if line else []

    def _sample(self, step: int, session: Session, sampler: Sampler) -> StepBatch:
        """Both prompts of each problem go out as one batch: G solutions and M meta-predictions.

        With a control at work the M meta-predictions go first, and decide which problems are solved, and how.
        """
        builder, controls = self.prepared.builder, session.controls
        if controls.metas_first:
            return roll_out_metas_first(step, sampler, session, builder, self.config, controls)
        return roll_out_together(step, sampler, session, builder, self.config)

    def _step(
        self,
        step: int,
        session: Session,
        sampler: Sampler,
        recorder: RunRecorder,
        metrics: StepMetrics,
    ) -> dict[str, float]:
        """One training step: the paper's Algorithm 1 for one batch of problems. Returns ``metrics`` and its own."""
        with timed(metrics, keys.STEP_SECONDS):
            with timed(metrics, "time/rollout"):
                batch = ShapedBatch.of(session.rollouts.take(step))
            session.engine.sleep()

            # Correctness of the solutions; their statistics reward the metas: r_length, r_difficulty, r_notion, r_meta.
            with timed(metrics, "time/verify"):
                groups = session.gather(session.grader.grade(batch.mine, batch.rollouts), batch.problems)
            recorder.note_failures(groups)
            require_working_verifier(groups, f"step {step}")

            training = groups
            if session.dynamic_sampling is not None:
                filled = session.dynamic_sampling.fill(groups, self._drawing(step, session, sampler, metrics))
                training, groups = filled.training, filled.sampled
                metrics.lasts(filled.metrics)

            # Advantages within each group of either path, and one policy update over both.
            mask_cut = self.config.controls.cutoff.mask_cut
            parts = training_rows(training, self.algorithm.advantage, self.config.algorithm, mask_cut=mask_cut)
            with timed(metrics, "time/update"):
                metrics.lasts(session.updater.update(parts))

            # MASA-efficient: controls learn from the step, and the best meta-predictions are cloned.
            metrics.merge(session.controls.observe(step, batch, groups))
            metrics.merge(clone_experts(step, session.controls, session.updater))
            with timed(metrics, "time/sync"):
                metrics.lasts(session.synchronise(step))

        record_groups(metrics, groups, batch.gated, by_source=bool(self.prepared.weights))
        record_step_cost(metrics, session.shape, groups, batch, session.updater.take_trained_lengths())
        record_staleness(metrics, training, step)
        metrics.lasts({f"reward/{name}": count for name, count in session.verifier_counters().items()})
        if self._evaluation_is_due(step):
            metrics.merge(self._evaluate(step, session, recorder))
        recorder.write(step, metrics, groups, batch.gated)
        return metrics.flatten()

    def _drawing(self, step: int, session: Session, sampler: Sampler, metrics: StepMetrics) -> Draw:
        """How dynamic sampling (DAPO) gets the graded rollouts of further problems; their time goes to ``metrics``."""

        def draw(count: int, beside: set[str]) -> list[GradedGroup]:
            problems = sampler.next_batch(count, beside=beside)
            with timed(metrics, "time/rollout"):
                session.wake_engine(step)
                batch = roll_out_problems(step, problems, session, self.prepared.builder, self.config)
                session.engine.sleep()
            with timed(metrics, "time/verify"):
                return session.gather(session.grader.grade(batch.mine, batch.rollouts), problems)

        return draw

    def _evaluate(self, step: int, session: Session, recorder: RunRecorder) -> StepMetrics:
        """Held-out accuracy and meta-awareness; no metrics where there are no held-out problems."""
        metrics, groups = self._measure_held_out(f"the evaluation at step {step}", session, recorder.note_failures)
        recorder.write_held_out(held_out_rows(step, groups))
        return metrics

    def _measure_held_out(
        self, when: str, session: Session, note: Callable[[list[GradedGroup]], None] | None = None
    ) -> tuple[StepMetrics, list[GradedGroup]]:
        """The metrics of an evaluation, and its groups, which ``note`` sees before a broken verifier ends the run."""
        metrics = StepMetrics()
        groups: list[GradedGroup] = []
        if self.prepared.evaluation:
            with timed(metrics, keys.EVALUATION_SECONDS):
                problems = session.share(self.prepared.evaluation)
                groups = evaluate_held_out(self.config, problems, self.prepared.builder, session.engine, session.grader)
                groups = session.gather(groups, self.prepared.evaluation)
                if note is not None:
                    note(groups)
                require_working_verifier(groups, when)
                record_held_out(metrics, groups)
                metrics.lasts({f"eval/{name}": count for name, count in session.verifier_counters().items()})
            # What the engine says of evaluation is none of the next step's business.
            session.engine.statistics()
        return metrics, groups

    def _evaluation_is_due(self, step: int) -> bool:
        every = self.config.evaluation.every
        return step == self.steps or (every > 0 and step % every == 0)

    def _checkpoint_is_due(self, step: int) -> bool:
        every = self.config.checkpoint.every
        return step == self.steps or (every > 0 and step % every == 0)
