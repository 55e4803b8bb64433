"""The cold start itself: solve problems, write their meta-predictions, clone these until held-out ones can be read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelerate.utils import broadcast_object_list

from masa.cold_start.examples import Examples, end_token
from masa.cold_start.records import CORRECTNESS, PARSED, ColdStartRecords
from masa.cold_start.solved import SolvedProblem, clones_solutions, solved_problem
from masa.cold_start.written_metas import MetaWriter, read_form, read_thoughts
from masa.config import Config
from masa.evaluation.held_out import held_out_rows
from masa.preflight import Prepared
from masa.problems import Problem
from masa.problems.chat import turn_end
from masa.problems.mixture import Sampler
from masa.problems.seeds import derive_seed
from masa.rewards.failures import require_working_verifier
from masa.rewards.grading import GradedGroup
from masa.rollout.engine import Rollout
from masa.session import Session
from masa.tracking.metrics import StepMetrics, timed

# Part of the seeds of what is sampled, in the place of a step's number.
_SOLVING, _CHECKING = "cold start", "cold start check"
_SHOWN_SAMPLES = 4


@dataclass(frozen=True)
class Chosen:
    """The problems of a cold start: those that are cloned, and those that only measure."""

    cloned: list[Problem]
    held_out: list[Problem]

    @property
    def all(self) -> list[Problem]:
        return [*self.held_out, *self.cloned]


def choose_problems(train: Sequence[Problem], config: Config) -> Chosen:
    """Which training problems a cold start uses: a random choice that depends on the run's seed alone."""
    section = config.cold_start
    picked = random.Random(derive_seed(config.run.seed, "cold start")).sample(list(train), section.problems)
    return Chosen(picked[section.held_out :], picked[: section.held_out])


class ColdStart:
    """One cold start of an open session's policy.

    Args:
        records: where it is written down and checkpointed; the first process alone writes there.
        evaluate: measures the policy on the run's held-out problems, given what for and the session.
        say: shows a line.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        session: Session,
        records: ColdStartRecords,
        evaluate: Callable[[str, Session], tuple[StepMetrics, list[GradedGroup]]],
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._section = config.cold_start
        self._prepared = prepared
        self._session = session
        self._records = records
        self._evaluate = evaluate
        self._say = say
        self._solving = StepMetrics()
        self._chosen = choose_problems(prepared.train, config)
        self._writer = MetaWriter(
            read_form(config.cold_start.response),
            read_thoughts(config.cold_start.thoughts),
            config.prompts.meta_keys,
            config.prompts.pass_rate_total,
            session.grader.parse,
        )

    def run(self, sampler: Sampler, *, resume: bool, evaluate_after: bool) -> bool:
        """Do all that is not done yet; False where SIGTERM ended it before that, with what was done saved.

        Afterwards the policy and its engine have the new weights, and the optimiser is as before its first step. The
        run's held-out problems are evaluated before the first update, and after the last with ``evaluate_after``.

        Raises:
            ConfigError: meta-predictions cannot be written as asked.
        """
        records, session = self._records, self._session
        done = session.restore(records.directory, sampler) if resume and records.can_resume else None
        records.go_on_after(done)
        session.accelerator.wait_for_everyone()
        if not records.is_complete:
            solved = self._solve()
            if solved is None or not self._clone(solved, done or 0, sampler, evaluate_after):
                return False
        session.updater.begin_anew()
        # Restoring gave the engine another version than that of a policy before its first step.
        session.synchronise(0)
        session.engine.statistics()
        session.updater.take_trained_lengths()
        return True

    def _solve(self) -> list[SolvedProblem] | None:
        """Every problem of the cold start, solved; those of an earlier start are read. None: SIGTERM."""
        solved = {one.problem_id: one for one in self._agreed(self._records.read_solved())}
        left = [problem for problem in self._chosen.all if problem.id not in solved]
        size = self._config.algorithm.num_problems
        for start in range(0, len(left), size):
            with timed(self._solving, "time/cold_start"):
                found = self._solve_some(left[start : start + size])
            self._records.append_solved(found)
            solved |= {one.problem_id: one for one in found}
            self._say(f"Cold start: {len(solved)} of {len(self._chosen.all)} problems solved")
            if self._session.asked_to_stop():
                return None
        return [solved[problem.id] for problem in self._chosen.all]

    def _solve_some(self, problems: list[Problem]) -> list[SolvedProblem]:
        session = self._session
        mine = session.share(problems)
        requests = self._prepared.builder.requests(
            mine, step=_SOLVING, num_solutions=self._config.algorithm.num_solutions, num_metas=0
        )
        groups = session.grader.grade(mine, session.engine.generate(requests))
        require_working_verifier(session.gather(groups, problems), "the cold start")
        own = [solved_problem(group, self._config, session.grader.judge) for group in groups]
        found = {one.problem_id: one for one in session.gather_objects(own)}
        return [found[problem.id] for problem in problems]

    def _clone(self, solved: Sequence[SolvedProblem], updates: int, sampler: Sampler, evaluate_after: bool) -> bool:
        """Clone until enough held-out meta-predictions can be read; False where SIGTERM ended it before that."""
        section, session, records = self._section, self._session, self._records
        held_out = {problem.id for problem in self._chosen.held_out}
        examples = self._examples([one for one in solved if one.problem_id not in held_out])
        if records.last_row is None:
            self._begin(solved, [one for one in solved if one.problem_id in held_out])
        parsed = self._parsed
        while parsed < section.until_parsed and updates < section.max_updates:
            metrics, before = StepMetrics(), updates
            updates = min(before - before % section.check_every + section.check_every, section.max_updates)
            loss = self._update(examples, range(before, updates), metrics)
            parsed = self._check(updates, metrics)
            self._say(
                f"Cold start: {updates} of at most {section.max_updates} updates, loss {loss:.3f}, "
                f"{parsed:.0%} of the held-out metas can be read"
            )
            ends = parsed >= section.until_parsed or updates == section.max_updates
            if ends:
                self._end(updates, metrics, evaluate_after)
            records.append(updates, metrics)
            if ends:
                break
            stopping, every = session.asked_to_stop(), section.checkpoint_every
            if stopping or (every and updates // every > before // every):
                session.save(records.directory, updates, sampler, {})
            if stopping:
                return False
        session.save(records.directory, updates, sampler, {})
        records.finish(examples, parsed)
        self._say(records.outcome())
        return True

    @property
    def _parsed(self) -> float:
        """The share of readable held-out meta-predictions as it was measured last, on every process."""
        row = self._records.last_row
        assert row is not None
        return float(row[PARSED])

    def _begin(self, solved: Sequence[SolvedProblem], held_out: Sequence[SolvedProblem]) -> None:
        """The row before the first update."""
        metrics = StepMetrics()
        metrics.merge(self._solving)
        self._check(0, metrics)
        _record_correctness(metrics, held_out)
        metrics.sum("cost/tokens_generated", sum(one.tokens for one in solved))
        self._evaluate_policy(0, metrics)
        self._records.append(0, metrics)
        self._session.accelerator.wait_for_everyone()

    def _end(self, updates: int, metrics: StepMetrics, evaluate_after: bool) -> None:
        """After the last update: the held-out problems are solved again, with the seeds that they had before."""
        with timed(metrics, "time/cold_start"):
            after = self._solve_some(self._chosen.held_out)
        metrics.sum("cost/tokens_generated", sum(one.tokens for one in after))
        _record_correctness(metrics, after)
        if evaluate_after:
            self._evaluate_policy(updates, metrics)

    def _evaluate_policy(self, updates: int, metrics: StepMetrics) -> None:
        evaluated, groups = self._evaluate("the cold start", self._session)
        metrics.merge(evaluated)
        self._records.append_held_out(held_out_rows(updates, groups))

    def _update(self, examples: Examples, numbers: range, metrics: StepMetrics) -> float:
        """The updates of these numbers; the mean of their losses."""
        session, losses = self._session, []
        with timed(metrics, "time/cold_start"):
            session.engine.sleep()
            for number in numbers:
                outcome = session.updater.clone(
                    examples.batch(number), weight=1.0, learning_rate=self._section.learning_rate
                )
                losses.append(outcome["control/expert_loss"])
                metrics.sum("control/cold_start_rows", outcome["control/expert_rows"])
                metrics.sum("control/cold_start_skipped_updates", outcome["control/expert_skipped_updates"])
                metrics.sum("cost/tokens_trained", outcome["control/expert_tokens"])
            metrics.means("control/cold_start_loss", losses)
            session.synchronise(0)
        return sum(losses) / len(losses)

    def _examples(self, cloned: Sequence[SolvedProblem]) -> Examples:
        builder = self._prepared.builder
        end = end_token(cloned, self._session.stop_ids, turn_end(builder.tokenizer, builder.format))
        return Examples(
            cloned,
            {problem.id: problem for problem in self._chosen.cloned},
            builder,
            self._writer,
            self._config,
            end=end,
            with_solutions=clones_solutions(self._section.solutions, cloned),
        )

    def _check(self, updates: int, metrics: StepMetrics) -> float:
        """The share of held-out meta-predictions that can be read in full, under the policy's present weights."""
        session = self._session
        with timed(metrics, "time/cold_start"):
            mine = session.share(self._chosen.held_out)
            requests = self._prepared.builder.requests(
                mine, step=_CHECKING, num_solutions=0, num_metas=self._section.num_metas
            )
            groups = session.gather_objects(session.engine.generate(requests))
            rollouts = [one for group in groups for one in group]
            read = [float(one.complete) for one in session.grader.predictions(rollouts)]
        metrics.means(PARSED, read)
        metrics.sum("cost/tokens_generated", sum(len(one.token_ids) for one in rollouts))
        self._show(updates, groups)
        return sum(read) / len(read)

    def _show(self, updates: int, groups: Sequence[Sequence[Rollout]]) -> None:
        by_id = {problem.id: problem for problem in self._chosen.held_out}
        firsts = sorted((group[0] for group in groups), key=lambda one: list(by_id).index(one.problem_id))
        grader, builder = self._session.grader, self._prepared.builder
        for one in firsts[:_SHOWN_SAMPLES]:
            problem = by_id[one.problem_id]
            (text,) = builder.tokenizer.batch_decode([list(one.token_ids)], skip_special_tokens=True)
            self._records.append_sample(
                updates, problem, builder.prompt_text(problem, "meta"), text, one, grader.parse(text).complete
            )

    def _agreed(self, solved: list[SolvedProblem]) -> list[SolvedProblem]:
        """What the first process read, on every process."""
        held: list[list[SolvedProblem]] = [solved]
        return broadcast_object_list(held)[0] if self._session.accelerator.num_processes > 1 else solved


def _record_correctness(metrics: StepMetrics, held_out: Sequence[SolvedProblem]) -> None:
    for one in held_out:
        metrics.mean(CORRECTNESS, one.correct / one.count, weight=one.count)
