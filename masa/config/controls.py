"""The options of MASA-efficient (docs/controls.md): when controls are on, and what each does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from masa.config.section import ImportedSource, NonNegativeInt, PositiveFloat, PositiveInt, Section, Share
from masa.config.selection import FLAGGING, SelectionSection


class StabilisedSection(Section):
    """When meta-awareness counts as stable; gating, cutoff and hinting are on from the next step on, and stay on."""

    after_step: NonNegativeInt = 0
    """Controls other than behaviour cloning are off for this many steps."""
    metric: Literal["r_meta", "r_difficulty", "r_length", "r_notion"] | None = None
    """They are also off until the exponential moving average of this reward has reached `above`; null: `after_step`
    alone decides."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Decay of that moving average per step; the average is corrected for its start, as in Adam."""
    above: Share = 0.5
    """The value that the moving average must reach."""


class ExpertSection(Section):
    """Behaviour cloning of the best meta-predictions, corrected by what was measured. It is on from the first step."""

    enabled: bool = False
    """Behaviour cloning: keep the best meta-predictions in a buffer of experts, and train on them."""
    rank_by: Literal["notion", "meta"] = "notion"
    """The reward that chooses a problem's best meta-prediction: r_notion or r_meta."""
    floor: Share = 0.2
    """A meta-prediction below this reward is no expert."""
    capacity: PositiveInt = 1024
    """Experts kept, one a problem; the oldest leave first."""
    batch_size: PositiveInt = 128
    """Experts of one cloning step, drawn at random from the buffer."""
    every: NonNegativeInt = 0
    """Number of steps between cloning steps, once the buffer holds a batch; 0: clone whenever a batch of new experts
    has come in."""
    cloning_steps: PositiveInt = 1
    """Optimiser steps each time experts are cloned."""
    weight: PositiveFloat = 1.0
    """Weight of the behaviour-cloning loss."""
    learning_rate_factor: PositiveFloat = 1.0
    """Learning rate of a cloning step, as a multiple of the policy update's."""

    @model_validator(mode="after")
    def _a_batch_fits(self) -> ExpertSection:
        if self.batch_size > self.capacity:
            raise ValueError(f"batch_size is {self.batch_size}, allowed is at most capacity ({self.capacity})")
        return self


class GatingSection(Section):
    """Predictive gating: no solutions for problems whose predicted pass rates agree that they teach nothing. From
    `audit_share` on the options hold for every method of `controls.selection`."""

    enabled: bool = False
    """Predictive gating: sample no solutions for problems that are predicted to be trivial or unsolvable."""
    max_std: PositiveFloat = 0.1
    """The predictions agree where their standard deviation is below this."""
    trivial: Share = 0.95
    """A mean predicted pass rate of at least this says trivial."""
    unsolvable: Share | None = 0.05
    """A mean predicted pass rate of at most this says unsolvable; null: no problem is gated as unsolvable, which
    keeps those that are learned from rare successes."""
    min_parsed: Share = 0.5
    """Share of the M predictions that must hold a pass rate; at least two must."""
    audit_share: Share = 0.05
    """Share of the problems that would be gated which are rolled out all the same, to measure the gate."""
    start: Literal["closed", "open"] = "closed"
    """`closed`: the gate opens when its precision is shown; `open`: it is open until the opposite is shown."""
    target_precision: Share = 0.8
    """The gate opens where its precision is at least this, and closes where it is less with that `confidence`."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Confidence of the interval whose upper end below the target closes the gate."""
    min_audits: PositiveInt = 16
    """Audited problems before the gate opens or closes."""
    window: PositiveInt = 64
    """Newest audited problems that precision, recall and F1 are measured on."""
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Largest share of a step's problems that may be gated. With `replace` it is shared out over the slots of the step
    beforehand; with `leave_out` the surest go first. No limit to methods that rank."""
    gated: Literal["replace", "leave_out"] = "replace"
    """`replace`: the slot of a gated problem takes another one, so the batch is full; `leave_out`: the step has fewer
    problems."""
    gated_metas: Literal["unrewarded", "history"] = "unrewarded"
    """Metas of gated problems: `unrewarded` ones take no part in the update; with `history` they are rewarded by
    r_difficulty against the pass rate of the problem's earlier solutions, where it has been solved before."""
    max_rounds: PositiveInt = 3
    """Most problems that one slot of a step gates and replaces; the next one is solved whatever is predicted, so the
    batch is full."""

    @model_validator(mode="after")
    def _thresholds_and_counts_fit(self) -> GatingSection:
        if self.unsolvable is not None and self.unsolvable >= self.trivial:
            raise ValueError(f"unsolvable is {self.unsolvable}, allowed is less than trivial ({self.trivial})")
        if self.min_audits > self.window:
            raise ValueError(f"min_audits is {self.min_audits}, allowed is at most window ({self.window})")
        return self


class CutoffSection(Section):
    """Early cutoff: a solution's token budget follows from its predicted length."""

    enabled: bool = False
    """Early cutoff: end a solution that has become much longer than predicted."""
    aggregate: Literal["mean", "median", "max"] = "mean"
    """How the lengths that a problem's meta-predictions name become one."""
    factor: PositiveFloat = 2.0
    """Budget as a multiple of the predicted length."""
    floor: PositiveInt = 256
    """No budget is below this many tokens."""
    audit_share: Share = 0.05
    """Share of the solutions that run to the response limit all the same, to measure the cutoff."""
    mask_cut: bool = False
    """Leave cut solutions out of the loss; they count as incorrect either way."""
    window: PositiveInt = 512
    """Newest audited solutions, at least, that precision, recall and F1 are measured on."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Confidence of the intervals of precision, recall and F1."""


class HintingSection(Section):
    """Notion hinting: predicted notions in the solution prompt."""

    enabled: bool = False
    """Notion hinting: add predicted notions to the prompt of some of the solutions."""
    share: Share = 0.5
    """Share of a problem's solutions that are given the hint."""
    text: str = "{{ notions | join(', ') }}"
    """The hint, as jinja2 text over the list `notions`; the solution template's `hint` stands for it."""
    max_notions: PositiveInt = 5
    """The most notions that a hint may have; those that more meta-predictions name go first."""
    min_agreement: Share = 0.25
    """Share of a problem's meta-predictions that must name a notion before it is part of a hint."""


class OwnControlsSection(Section):
    """Controls of your own, by import path (docs/custom.md)."""

    budget: ImportedSource | None = None
    """`module:function`, `(problem, predictions) -> tokens`: takes the place of the multiple of the predicted length in
    `controls.cutoff`, whose floor, audits and measures remain; or `{path, arguments}` of a class."""
    hint: ImportedSource | None = None
    """`module:function`, `(problem, predictions) -> text`: takes the place of the agreed notions in `controls.hinting`,
    whose share remains; or `{path, arguments}` of a class."""


class ControlsSection(Section):
    """MASA-efficient, and the alternatives to its gate. With gating, cutoff or hinting, meta-predictions are sampled
    before solutions."""

    stabilised: StabilisedSection = StabilisedSection()
    expert: ExpertSection = ExpertSection()
    gating: GatingSection = GatingSection()
    selection: SelectionSection = SelectionSection()
    cutoff: CutoffSection = CutoffSection()
    hinting: HintingSection = HintingSection()
    own: OwnControlsSection = OwnControlsSection()

    @property
    def selection_method(self) -> str:
        """The method that chooses problems."""
        return self.selection.method or ("meta" if self.gating.enabled else "none")

    @model_validator(mode="after")
    def _gate_can_open(self) -> ControlsSection:
        gating = self.gating
        if self.selection_method in FLAGGING and gating.start == "closed" and not gating.audit_share:
            raise ValueError(
                f"gating.audit_share is {gating.audit_share:g}, with which a gate that starts closed never opens; "
                "allowed with gating.start closed: more than 0"
            )
        return self

    @model_validator(mode="after")
    def _own_controls_are_used(self) -> ControlsSection:
        for name, control in (("budget", "cutoff"), ("hint", "hinting")):
            source = getattr(self.own, name)
            if source is not None and not getattr(self, control).enabled:
                raise ValueError(f"own.{name} is {source.path!r}, which needs {control}.enabled, but that is false")
        return self

    @model_validator(mode="after")
    def _one_method_selects(self) -> ControlsSection:
        if self.gating.enabled and self.selection_method != "meta":
            raise ValueError(
                f"selection.method is {self.selection_method!r}, allowed with gating.enabled: meta, or null; gating is "
                "selection by meta-predictions"
            )
        return self
