"""Options of the policy update: the algorithm and its optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from masa.config.section import (
    AutoSwitch,
    ImportedSource,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
)


class OverlongSection(Section):
    """What happens to solutions near or at the response limit (DAPO)."""

    punish_tokens: NonNegativeInt = 0
    """Soft overlong punishment: falls from 0 to -1 over this many tokens before the limit; 0: none."""
    mask_truncated: bool = False
    """Leave truncated responses out of the loss."""


class DynamicSamplingSection(Section):
    """DAPO's dynamic sampling: solution groups of equal rewards teach nothing, so fresh problems take their place."""

    enabled: bool = False
    """Dynamic sampling: replace problems whose solutions all have the same reward by fresh ones, until the batch is
    full."""
    max_rounds: PositiveInt = 4
    """How many times a slot of a step takes fresh problems, after its first one; then the step goes on without it."""
    oversample: Annotated[float, Field(ge=1, le=8)] = 1.0
    """This many problems, on average, take the place of one; the surplus is carried over to the next step. Above 1
    rollouts can be a step old, and `algorithm.tis_cap` or `algorithm.correction` is required."""
    keep_metas: bool = True
    """Train on the meta-predictions of replaced problems too, so that trivial and unsolvable ones are known."""


class CorrectionSection(Section):
    """Importance weights of rollouts whose distribution is not quite the policy's: older weights, another kernel."""

    mode: Literal["none", "truncate", "mask"] = "none"
    """What bounds the weights: `truncate` lowers those above `upper` to it, `mask` sets those outside of `lower` and
    `upper` to 0 (the tokens still count in the loss's divisor), `none` makes no correction."""
    level: Literal["token", "sequence", "geometric"] = "token"
    """One weight a token, or one a response: the product over its tokens (`sequence`), or their geometric mean."""
    lower: NonNegativeFloat | None = None
    """Lower bound of the weights; needed with `mask`, without effect otherwise."""
    upper: PositiveFloat | None = None
    """Upper bound of the weights; needed unless the mode is `none`."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> CorrectionSection:
        wanted = {"none": (), "truncate": ("upper",), "mask": ("lower", "upper")}[self.mode]
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if value is None and name in wanted:
                raise ValueError(f"{name} is null, mode {self.mode!r} needs a number")
            if value is not None and name not in wanted:
                raise ValueError(f"{name} is {value}, allowed with mode {self.mode!r}: null, for it has no effect")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower is {self.lower}, allowed is less than upper ({self.upper})")
        return self


class LossTermSource(ImportedSource):
    """A loss term of the user's own."""

    path: str
    """`module:name` of a function, or of a class whose objects are called like one."""
    name: str | None = None
    """Under which its mean stands in the metrics, `policy/term_NAME`; null: the function's own name."""
    weight: float = 1.0
    """What it is multiplied with before it is added to the loss of each token."""


class OwnAlgorithmSection(Section):
    """Parts of the algorithm of your own, by import path."""

    advantage: str | None = None
    """`module:function` that computes the advantages of one group: `function(rewards, path)` gets the rewards of the
    group and `solution` or `meta`, and returns as many numbers. Null: as `name` and `advantage_scale` say."""
    loss_terms: list[LossTermSource] = Field(default_factory=list)
    """Terms that are added to the loss of each token: a list of `{path: module:function, name, weight, arguments}`. The
    function gets `logprobs`, `old_logprobs`, `advantages` and `mask` by name, each of responses times tokens, and
    returns a tensor of that shape."""


class AlgorithmSection(Section):
    """The policy-gradient method. Null means: as the preset `name` says."""

    name: Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo", "rloo"] = "grpo"
    """Preset of loss and advantages; options of this section that are not null take the place of its values."""
    meta: bool = True
    """Roll out and train the meta path; false is plain GRPO in the same loop."""
    num_problems: PositiveInt = 128
    """Problems of a step, over all processes."""
    num_solutions: Annotated[int, Field(ge=2)] = 16
    """Solutions that are sampled for each problem (the paper's G): the size of a group."""
    num_metas: Annotated[int, Field(ge=2)] = 16
    """Meta-predictions that are sampled for each problem (the paper's M). As a mapping
    `{at_first: 16, when_calibrated: 4}` it is short for this option and the next one."""
    num_metas_when_calibrated: Annotated[int, Field(ge=2)] | None = None
    """M in steps in which the gate is open and its precision, on at least `controls.gating.min_audits` audits, is at
    least `controls.gating.target_precision`. Null: M is always `num_metas`."""
    updates_per_step: PositiveInt = 1
    """Optimiser steps on the rollouts of one step; the rollouts of all processes are split among them by problem."""
    clip_low: Share | None = None
    """Lower clipping: the ratio of the new to the old policy counts as at least 1 - clip_low."""
    clip_high: NonNegativeFloat | None = None
    """Upper clipping: the ratio of the new to the old policy counts as at most 1 + clip_high."""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """c of dual clip: the bound of the ratio where the advantage is negative; null: none."""
    kl_coefficient: NonNegativeFloat | None = None
    """Weight of the KL divergence from the initial policy in the loss; above 0 a frozen copy of that policy is kept in
    memory."""
    kl_estimator: Literal["k1", "k2", "k3"] | None = None
    """Estimator of that KL, per token. `k1` is refused with a coefficient: the expectation of its gradient is zero."""
    entropy_coefficient: NonNegativeFloat | None = None
    """Weight of the entropy bonus in the loss; 0: none."""
    tis_cap: PositiveFloat | None = None
    """Truncated importance sampling against the engine's log-probs, token by token: cap of the weights. The short form
    of `correction: {mode: truncate, level: token, upper: ...}`; null: as `correction` says."""
    correction: CorrectionSection = CorrectionSection()
    aggregation: Literal["token", "sequence", "constant"] | None = None
    """How token losses become one number: mean over tokens, mean over responses of their means, or a constant."""
    advantage_scale: Literal["std", "none", "batch"] | None = None
    """What advantages are divided by: the group's standard deviation, nothing, or that of the path's whole batch."""
    overlong: OverlongSection = OverlongSection()
    dynamic_sampling: DynamicSamplingSection = DynamicSamplingSection()
    own: OwnAlgorithmSection = OwnAlgorithmSection()

    @property
    def corrects(self) -> bool:
        """Whether the loss has importance weights against the engine's log-probs."""
        return self.tis_cap is not None or self.correction.mode != "none"

    @model_validator(mode="before")
    @classmethod
    def _metas_at_first_and_when_calibrated(cls, value: Any) -> Any:
        metas = value.get("num_metas") if isinstance(value, Mapping) else None
        if not isinstance(metas, Mapping):
            return value
        if set(metas) != {"at_first", "when_calibrated"}:
            raise ValueError(
                f"num_metas is a mapping with {', '.join(map(str, metas)) or 'nothing'}, allowed are a whole number, "
                "or a mapping with at_first and when_calibrated"
            )
        if value.get("num_metas_when_calibrated") is not None:
            raise ValueError(
                f"num_metas_when_calibrated is {value['num_metas_when_calibrated']}, allowed together with a mapping "
                "as "
                "num_metas: null; the mapping's when_calibrated is the same option"
            )
        return {**value, "num_metas": metas["at_first"], "num_metas_when_calibrated": metas["when_calibrated"]}

    @model_validator(mode="after")
    def _fewer_metas_are_fewer(self) -> AlgorithmSection:
        fewer = self.num_metas_when_calibrated
        if fewer is not None and fewer > self.num_metas:
            raise ValueError(f"num_metas_when_calibrated is {fewer}, allowed is at most num_metas ({self.num_metas})")
        return self

    @model_validator(mode="after")
    def _one_advantage(self) -> AlgorithmSection:
        if self.own.advantage is not None and self.advantage_scale is not None:
            raise ValueError(
                f"advantage_scale is {self.advantage_scale!r}, allowed together with own.advantage: null, for it has "
                "no effect"
            )
        return self

    @model_validator(mode="after")
    def _one_correction(self) -> AlgorithmSection:
        if self.tis_cap is not None and self.correction.mode != "none":
            raise ValueError(
                f"tis_cap is {self.tis_cap}, allowed together with correction.mode {self.correction.mode!r}: null; "
                "tis_cap is "
                "the short form of correction: {mode: truncate, level: token, upper: ...}"
            )
        return self

    @model_validator(mode="after")
    def _what_is_carried_over_is_corrected(self) -> AlgorithmSection:
        dynamic = self.dynamic_sampling
        if dynamic.enabled and dynamic.oversample > 1 and not self.corrects:
            raise ValueError(
                f"dynamic_sampling.oversample is {dynamic.oversample}, allowed without tis_cap or correction is 1: "
                "set algorithm.tis_cap, for example to 2"
            )
        return self


class OptimizerSection(Section):
    """AdamW and the update's shape."""

    learning_rate: PositiveFloat = 1e-6
    """Learning rate after warm-up, the largest of the run."""
    warmup_steps: NonNegativeInt = 20
    """Warm-up: updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up: constant, or decaying so that the update after the last one would be of rate zero."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay of matrices; norms and biases are not decayed."""
    beta1: Share = 0.9
    """AdamW's beta1: decay of the running mean of gradients."""
    beta2: Share = 0.999
    """AdamW's beta2: decay of the running mean of squared gradients."""
    epsilon: PositiveFloat = 1e-8
    """AdamW's epsilon, which is added to the denominator of an update."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient clipping: gradients with a larger norm than this are scaled down to it."""
    micro_batch_tokens: PositiveInt = 16384
    """Padded tokens (prompt and response) of one process's forward and backward pass; a longer sequence goes alone."""
    packing: AutoSwitch = "auto"
    """Put sequences one behind another instead of padding them; `auto`: where the attention kernel skips the work
    between them (`flash_attention_2`)."""
    share_prompts: AutoSwitch = "auto"
    """Compute the prompt that a group's rows have in common once for each pass instead of once for each row, where that
    saves at least a tenth of the tokens. Needs `sdpa` attention over the whole sequence in every layer, and no
    `model.gradient_checkpointing`; without these rows are padded whole. `auto`: on a CPU alone, for a response behind a
    prompt needs an explicit mask, and a GPU's fastest kernels take none."""
