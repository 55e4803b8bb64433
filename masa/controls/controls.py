"""All controls of a run together: what is on, what they decide, what they learn from a step, and their state."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from masa.config import Config
from masa.config.controls import ExpertSection
from masa.controls.batch import ShapedBatch
from masa.controls.cutoff import EarlyCutoff
from masa.controls.expert import Expert, ExpertBuffer
from masa.controls.gated_metas import GatedMetaRewards, RewardedMetas
from masa.controls.gating import GateDecision, Judgement, PredictiveGate, decide, gatings, is_drawn
from masa.controls.hinting import NotionHinting
from masa.controls.measuring import (
    mean_rewards,
    measured,
    observe_cutoff,
    observe_gate,
    outcome_of,
    record_hints,
    share_of_kept,
)
from masa.controls.own.shaping import OwnPart, own_budget, own_hint
from masa.controls.plan import PlanSettings, PredictedProblem, hint_limit
from masa.controls.reuse import KeptPredictions
from masa.controls.selection.factory import make_selector
from masa.controls.selection.ranking import keep_nearest
from masa.controls.selection.selector import Evidence
from masa.controls.splice import Splicer
from masa.controls.stabilised import Stabilised
from masa.problems import Problem
from masa.rewards.grading import GradedGroup, Grader
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.requests import RequestBuilder
from masa.tracking.metrics import StepMetrics

ReadPrompts = Callable[[Sequence[Sequence[int]], int], list[list[float]]]


class Controls:
    """MASA-efficient (docs/controls.md). A control that is not enabled is None here, and costs nothing.

    Args:
        room: tokens that prompt and response may have together; None: not known.
        read_prompts: the policy's hidden states of prompts (`masa.policy.forward.prompt_states.PromptReader`), for the
            selection method that needs them.
        gather: gives each process the objects of all; None for one process.
    """

    def __init__(
        self,
        config: Config,
        builder: RequestBuilder,
        grader: Grader,
        room: int | None = None,
        read_prompts: ReadPrompts | None = None,
        gather: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        section = config.controls
        self._config = config
        self.stabilised = Stabilised(section.stabilised)
        self.read_prompts = read_prompts
        self.selector = make_selector(config)
        self.gate = PredictiveGate(section.gating) if self.selector is not None else None
        self.gated_metas: GatedMetaRewards | None = None
        if self.gate is not None and section.gating.gated_metas == "history":
            self.gated_metas = GatedMetaRewards(config)
        budget, hint = own_budget(section.own), own_hint(section.own)
        self.own_parts: dict[str, OwnPart | None] = {"own_budget": budget, "own_hint": hint}
        self.cutoff = EarlyCutoff(section.cutoff, budget) if section.cutoff.enabled else None
        special = tuple(str(token) for token in builder.tokenizer.get_added_vocab())
        self.hinting: NotionHinting | None = None
        if section.hinting.enabled:
            self.hinting = NotionHinting(section.hinting, special, config.rewards.notion_match, hint)
        self.kept: KeptPredictions | None = None
        if section.selection.keep_predictions:
            cuts, hints = self.cutoff is not None, self.hinting is not None
            self.kept = KeptPredictions(section.selection.keep_predictions, lengths=cuts, notions=hints)
        self.expert: ExpertBuffer | None = None
        if section.expert.enabled:
            keys = {"pass_rate": grader.keys.pass_rate, "length": grader.keys.length}
            total = config.prompts.pass_rate_total
            splicer = Splicer(builder.tokenizer, grader.parse, keys, total)
            shared = {} if gather is None else {"gather": gather}
            self.expert = ExpertBuffer(section.expert, splicer, total, config.run.seed, **shared)
        self.plan_settings = PlanSettings(
            num_solutions=config.algorithm.num_solutions,
            limit=config.rollout.max_solution_tokens,
            run_seed=config.run.seed,
            cutoff=self.cutoff,
            hinting=self.hinting,
            hint_fits=hint_limit(builder, config.prompts.max_tokens, config.rollout.max_solution_tokens, room),
        )

    @property
    def is_on(self) -> bool:
        """Whether gating, cutoff and hinting act in the next step."""
        return self.stabilised.since is not None

    @property
    def shapes(self) -> bool:
        """Whether the next step's metas shape its solutions."""
        return self.is_on and (self.cutoff is not None or self.hinting is not None)

    @property
    def selects(self) -> bool:
        """Whether the next step's problems are selected; a method that ranks has no gate that could be closed."""
        if self.gate is None or self.selector is None or not self.is_on:
            return False
        return self.selector.ranks or self.gate.is_open

    @property
    def num_metas(self) -> int:
        """M of the next step: the smaller one while a gate that is at work is calibrated."""
        algorithm = self._config.algorithm
        fewer = algorithm.num_metas_when_calibrated
        if fewer is None or self.gate is None or not self.selects or not self.gate.is_calibrated:
            return algorithm.num_metas
        return fewer

    def kept_predictions(self, step: int, problem: str) -> tuple[MetaPrediction, ...]:
        """Predictions that take the place of new metas of a problem in step ``step``; mostly none."""
        return self.kept(step, problem) if self.kept is not None else ()

    @property
    def metas_first(self) -> bool:
        """Whether the next step's metas decide about its solutions; a closed gate alone decides nothing."""
        return self.shapes or (self.selects and self.selector is not None and self.selector.needs == "metas")

    @property
    def decides_first(self) -> bool:
        """Whether something is decided, or read, before all of the next step's rollouts can be asked for."""
        reads = self.selector is not None and self.selector.needs == "prompts"
        return self.metas_first or self.selects or reads

    def candidates(self, places: int) -> int:
        """How many problems to draw for so many places."""
        ranks = self.selects and self.selector is not None and self.selector.ranks
        return math.ceil(self._config.controls.selection.candidates * places) if ranks else places

    def judge(self, step: int, predicted: PredictedProblem, evidence: Evidence) -> Judgement | None:
        """What the selection method says of one problem; None where there is none, or one that ranks problems."""
        if self.selector is None or self.selector.ranks:
            return None
        return self.selector.judge(step, [predicted], evidence)[predicted.problem.id]

    def is_audited(self, step: int, problem: str) -> bool:
        """Whether a flagged problem is solved all the same, to measure the gate."""
        share = self._config.controls.gating.audit_share
        return is_drawn(share, self._config.run.seed, step, problem, "gate audit")

    @property
    def leaves_out(self) -> bool:
        """Whether gated problems leave their slots empty; else the slots take other problems."""
        return self._config.controls.gating.gated == "leave_out"

    def gatings(self, step: int, slots: int) -> list[int]:
        """How many problems each slot of the next step may gate and replace."""
        if self.selector is None or self.selector.ranks or not self.selects or self.leaves_out:
            return [0] * slots
        return gatings(self._config.controls.gating, slots, self._config.run.seed, step)

    def decide(self, step: int, judgements: Mapping[str, Judgement]) -> GateDecision:
        """Which problems of a step are left out."""
        section, seed = self._config.controls.gating, self._config.run.seed
        return decide(judgements, section, seed, step, is_open=self.selects)

    def rank(self, step: int, candidates: Sequence[Problem], evidence: Evidence, places: int) -> GateDecision:
        """Which of these candidates are not solved, by a selection method that ranks them; none where it is not on."""
        if self.selector is None or not self.selects:
            return GateDecision()
        predicted = [PredictedProblem(problem, (), ()) for problem in candidates]
        judgements = self.selector.judge(step, predicted, evidence)
        audit_share = self._config.controls.gating.audit_share
        return keep_nearest(judgements, places, audit_share, self._config.run.seed, step)

    def at_this_moment(self) -> Controls:
        """The controls as they are now, for decisions about a step that is sampled while they learn from others."""
        frozen = copy.copy(self)
        for name in ("stabilised", "selector", "gate"):
            setattr(frozen, name, copy.deepcopy(getattr(self, name)))
        frozen.kept = self.kept.at_this_moment() if self.kept is not None else None
        # Budgets and hints of the user's own may learn as well; a template, which hints hold, is not copied.
        frozen.cutoff, frozen.hinting = copy.copy(self.cutoff), copy.copy(self.hinting)
        if frozen.cutoff is not None and frozen.cutoff.own is not None:
            frozen.cutoff.own = frozen.cutoff.own.at_this_moment()
        if frozen.hinting is not None and frozen.hinting.own is not None:
            frozen.hinting.own = frozen.hinting.own.at_this_moment()
        frozen.plan_settings = replace(self.plan_settings, cutoff=frozen.cutoff, hinting=frozen.hinting)
        return frozen

    def reward_gated(self, step: int, gated: Sequence[PredictedProblem]) -> list[RewardedMetas]:
        """The metas of gated problems that the problem's history rewards; mostly none."""
        return self.gated_metas(step, gated) if self.gated_metas is not None else []

    def observe(
        self,
        step: int,
        batch: ShapedBatch,
        groups: Sequence[GradedGroup],
        gated: Sequence[RewardedMetas] = (),
    ) -> StepMetrics:
        """Learn from a step: audits, rewards, experts. Every process sees all groups, so all learn the same.

        ``gated`` is what `reward_gated` gave for the batch.
        """
        metrics = StepMetrics()
        if self._config.algorithm.num_metas_when_calibrated is not None:
            # What this step was sampled with, before the gate learns from it.
            metrics.last("control/num_metas", batch.num_metas or self.num_metas)
        if self.gate is not None:
            flagged = self._flagged(step, batch, groups)
            gates = self.selector is not None and not self.selector.ranks
            observe_gate(metrics, self.gate, batch, groups, flagged, gates=gates)
            if self.kept is not None:
                metrics.last("control/predictions_kept_share", share_of_kept(batch, groups))
                self.kept.observe(step, measured(batch, groups, flagged))
                metrics.last("control/predictions_kept", len(self.kept))
        outcomes = [outcome_of(group) for group in groups]
        if self.gated_metas is not None:
            rewards = [reward for one in gated for reward in one.rewards]
            metrics.sum("control/gated_metas_rewarded", len(rewards))
            metrics.means("control/gated_r_difficulty", [reward.difficulty for reward in rewards])
            self.gated_metas.observe(step, outcomes)
        if self.selector is not None:
            metrics.lasts(self.selector.observe(step, outcomes, batch.evidence))
        if self.cutoff is not None:
            observe_cutoff(metrics, self.cutoff, batch, groups, self._config.rollout.max_solution_tokens)
        if self.hinting is not None:
            record_hints(metrics, groups)
            metrics.last("control/hints_without_room", sum(plan.hint_left_out for plan in batch.plans.values()))
        for part in self.own_parts.values():
            if part is not None:
                part.observe(step, groups)
        if self.gate is not None or self.cutoff is not None or self.hinting is not None:
            metrics.last("control/on", float(self.is_on if batch.controls_on is None else batch.controls_on))
            self.stabilised.observe(step, mean_rewards(groups))
            if not math.isnan(self.stabilised.mean):
                metrics.last("control/stabilised_mean", self.stabilised.mean)
            if self.stabilised.since is not None:
                metrics.last("control/stabilised_after_step", self.stabilised.since)
        if self.expert is not None:
            collected = self.expert.collect(step, groups)
            metrics.sum("control/expert_added", len(collected.scores))
            metrics.sum("control/expert_not_spliced", collected.not_spliced)
            metrics.means("control/expert_score", collected.scores)
            metrics.last("control/expert_size", len(self.expert))
        return metrics

    def experts_to_clone(self, step: int) -> list[list[Expert]]:
        """The batches of behaviour cloning that are due after step ``step``."""
        return self.expert.batches(step) if self.expert is not None else []

    @property
    def expert_section(self) -> ExpertSection:
        """How experts are cloned."""
        return self._config.controls.expert

    def state_dict(self) -> dict[str, Any]:
        """The state of what is enabled; plain JSON values."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken, under the same configuration."""
        for name, part in self._parts().items():
            # Checkpoints from before there were selection methods hold none; the gate's remembers nothing.
            part.load_state_dict(state.get(name, {}) if name == "selector" else state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "stabilised": self.stabilised,
            "gate": self.gate,
            "selector": self.selector,
            "kept": self.kept,
            "gated_metas": self.gated_metas,
            "cutoff": self.cutoff,
            "expert": self.expert,
            **self.own_parts,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _flagged(self, step: int, batch: ShapedBatch, groups: Sequence[GradedGroup]) -> frozenset[str]:
        """The problems that the selection flagged; in a step that sampled all at once, those it would have flagged."""
        if batch.flagged is not None:
            return batch.flagged
        found = set()
        # Only a method that asks for the solutions' rewards may see them: they are what it is measured by.
        shown = self.selector is not None and self.selector.needs == "solutions"
        for group in groups:
            predicted = PredictedProblem(group.problem, group.metas, group.predictions)
            judgement = self.judge(step, predicted, {group.problem.id: group.solution_rewards} if shown else {})
            if judgement is not None and judgement.flagged:
                found.add(group.problem.id)
        return frozenset(found)
