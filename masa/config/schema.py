"""Every option of a run, with its type, range, default and meaning: the one place where defaults live.

Sections of their own file: `masa.config.algorithm` (the update), `masa.config.cold_start`, `masa.config.controls`
(MASA-efficient), `masa.config.hub`, `masa.config.prompts`, `masa.config.rewards`, `masa.config.rollout`,
`masa.config.tracking`.

A configuration is a YAML file, refined by ``section.key=value`` overrides. Importing this module imports neither torch
nor any engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from masa.config.algorithm import AlgorithmSection, OptimizerSection
from masa.config.cold_start import ColdStartSection
from masa.config.controls import ControlsSection
from masa.config.hub import HubSection
from masa.config.prompts import PromptsSection
from masa.config.rewards import RewardsSection
from masa.config.rollout import RolloutSection
from masa.config.section import (
    AutoSwitch,
    ImportedSource,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)
from masa.config.selection import require_gate_by_metas, require_selection_fits
from masa.config.signs import SignName
from masa.config.tracking import TrackingSection


class LoraSection(Section):
    """Low-rank adapters in place of training all parameters; needs peft (the extra `lora`)."""

    rank: NonNegativeInt = 0
    """Rank of LoRA adapters; 0: no adapters, all parameters are trained."""
    alpha: PositiveInt = 32
    """Scale of LoRA: the product of an adapter's matrices is multiplied by alpha / rank."""
    targets: list[str] = Field(default_factory=list)
    """Names of the linear layers that get adapters, such as `q_proj`; empty: all but the output head."""


class ModelSection(Section):
    """The policy: the model that is trained."""

    path: str = "embedded"
    """A folder or hub id that `transformers` loads, a GGUF file (`FOLDER/NAME.gguf` or `owner/name:NAME.gguf`, read
    through the package gguf and trained dequantised), `embedded`, or `embedded:long` once it is built."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the policy's parameters."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of `transformers`; `eager` takes the place of `sdpa` where a model has none, or where
    `sdpa` leaves something out, with a line that says so."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: takes less memory, and about a third more time."""
    liger_kernel: AutoSwitch = "auto"
    """Fused norms and MLPs of the package liger-kernel on a GPU; `auto`: where it is installed and a timed pass is
    faster with them. The timing may turn out differently next time: set `on` or `off` where a resumed run must be
    equal bit for bit."""
    lora: LoraSection = LoraSection()


class ProblemSource(Section):
    """One of several sources of training problems."""

    source: str
    """Named like the one source of `problems.train`."""
    weight: PositiveFloat = 1.0
    """Its share of the problems drawn is this over the sum of all weights, whatever its size."""
    limit: PositiveInt | None = None
    """Use the first `limit` problems of this source."""


class ProblemsSection(Section):
    """The problems to train on and to evaluate with."""

    train: str | Annotated[list[ProblemSource], Field(min_length=1)] = "embedded:train"
    """`embedded:train`, `embedded:long`, a preset (deepscaler, dapo_math_17k, gsm8k, math), a hub id, a
    parquet/json/jsonl/csv, or a procedural task such as `reasoning_gym:chain_sum?size=1000&seed=1&max_digits=2` (needs
    the extra `gym`); or a list of `{source, weight, limit}`, whose sources are mixed by weight (1 unless given)."""
    train_split: str = "train"
    """Split of a hub data set to train on."""
    eval: str | None = None
    """Held-out problems, named like `train`; null: no evaluation."""
    eval_split: str = "test"
    """Split of a hub data set for evaluation."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Maps `statement`, `answer`, `solution`, `id`, `source` to columns; empty: known schemas are detected."""
    verifier: str | None = None
    """Verifier for every problem (math, choice, exact, code, or `module:function`); null: as the data says."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """A row that is no problem: `refuse` stops before the run, `skip` leaves it out and counts it."""
    limit: PositiveInt | None = None
    """Use the first `limit` training problems, of each source where there are several."""
    eval_limit: PositiveInt | None = None
    """Use the first `eval_limit` held-out problems."""

    @property
    def train_sources(self) -> list[str]:
        """The sources of training problems, as they are named."""
        return [self.train] if isinstance(self.train, str) else [one.source for one in self.train]


class EvaluationSection(Section):
    """Held-out evaluation during training."""

    every: NonNegativeInt = 0
    """Number of steps between evaluations; the policy is always evaluated before the first and after the last step.
    0: only then."""
    num_samples: PositiveInt = 1
    """Solutions of each held-out problem; accuracy is pass@1, the mean over them."""
    max_solution_tokens: PositiveInt | None = None
    """Response limit of a held-out solution, in tokens; null: that of training, `rollout.max_solution_tokens`. The
    prompts speak of the limit of training."""
    num_metas: NonNegativeInt = 1
    """Meta-predictions of each held-out problem; 0: the meta path is not evaluated."""
    temperature: NonNegativeFloat = 1.0
    """Sampling temperature of evaluations; 0: greedy."""
    benchmarks: list[str] = Field(default_factory=list)
    """Benchmarks or suites (math, logic, ...) evaluated together with `problems.eval`; see `masa evaluate --list`."""
    declarations: list[str] = Field(default_factory=list)
    """YAML files that declare further benchmarks and suites, as `masa evaluate --declarations` reads them; their
    templates and limits hold for `masa evaluate` alone."""
    benchmark_data: dict[str, str] = Field(default_factory=dict)
    """Local files to read benchmarks from, by benchmark name; others come from the hub."""
    benchmark_limit: PositiveInt | None = None
    """Use only this many problems of each benchmark, the first ones; null: all."""


class CheckpointSection(Section):
    """Checkpointing: what is saved of a run, and when."""

    every: NonNegativeInt = 50
    """Number of steps between checkpoints; one is always saved after the last step. 0: only then."""
    keep: PositiveInt = 2
    """How many of the newest checkpoints are kept."""
    contents: Literal["all", "model"] = "all"
    """`model`: model and tokenizer alone, for inference: 2 of 14 bytes a parameter in bfloat16. `--resume` passes over
    such checkpoints to the newest that holds all, which is kept for it, and refuses where there is none."""
    background: bool = False
    """Copy a checkpoint to the host's memory and write it while the run goes on. Each process needs room there for its
    part: a checkpoint's bytes divided by the processes. Where a host has too little the run waits, and says so. A run
    that is killed while one is written resumes from the one before."""
    best_metric: str | None = "eval/accuracy"
    """The checkpoint with the best value of this metric, measured at its own step, is kept as well; null: none."""
    best_is: Literal["highest", "lowest"] = "highest"
    """Which value of `best_metric` is the best."""


class CallbackSource(ImportedSource):
    """A callback of the user's own."""

    path: str
    """`module:name` of a class, a function that makes an object, or an object."""


class RunSection(Section):
    """The run itself: its folder, length, seed and early stopping."""

    dir: str = "runs/{name}-{number}"
    """The run directory: everything a run writes. `{name}` is `run.name` or the method's name, `{date}` the day the run
    begins, `{number}` the next number that is free; `--resume` resumes the newest run of such folders."""
    name: str | None = None
    """What reports call the run; null: the name of its method. Give the seeds of one method the same name."""
    seed: NonNegativeInt = 0
    """Seed from which all randomness of the run derives."""
    steps: PositiveInt | None = None
    """Number of training steps; null: as many as `epochs` passes over the training problems take, where every problem
    that is drawn is solved (docs/selection.md says how many more problems a step draws that leaves some out)."""
    epochs: PositiveInt = 1
    """Passes over the training problems; used where `steps` is null."""
    stop_when: list[SignName] = Field(default_factory=list)
    """Early stopping: warning signs that end the run after a checkpoint is written: `metas_unparsed`,
    `responses_truncated`, `groups_flat`, `no_gradient`, `entropy_collapse`, `kl_explosion`, `length_explosion`,
    `parse_rate_falling`. Those that are not listed are reported only."""
    callbacks: list[CallbackSource] = Field(default_factory=list)
    """Callbacks of your own: `module:Class`, or `{path: module:Class, arguments: {name: value}}`; their methods are
    called at the events of the run, and may stop it, save it and add to its metrics."""
    threads: PositiveInt | None = None
    """Number of CPU threads that torch uses; null: torch chooses."""
    timeout_minutes: PositiveFloat = 180.0
    """Distributed training: how long processes wait for one another, for example while a large checkpoint is written.
    A process that dies ends the others within a minute all the same."""

    @field_validator("dir")
    @classmethod
    def _known_placeholders(cls, value: str) -> str:
        for found in re.findall(r"\{[^{}]*\}", value):
            if found not in ("{name}", "{date}", "{number}"):
                raise ValueError(f"found {found} in {value!r}, allowed: {{name}}, {{date}}, {{number}}")
        return value


class Config(Section):
    """A whole run."""

    model: ModelSection = ModelSection()
    problems: ProblemsSection = ProblemsSection()
    prompts: PromptsSection = PromptsSection()
    rollout: RolloutSection = RolloutSection()
    rewards: RewardsSection = RewardsSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    optimizer: OptimizerSection = OptimizerSection()
    controls: ControlsSection = ControlsSection()
    cold_start: ColdStartSection = ColdStartSection()
    evaluation: EvaluationSection = EvaluationSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
    hub: HubSection = HubSection()
    run: RunSection = RunSection()

    @property
    def held_out_solution_tokens(self) -> int:
        """Response limit of a held-out solution, in tokens."""
        return self.evaluation.max_solution_tokens or self.rollout.max_solution_tokens

    @property
    def evaluates(self) -> bool:
        """Whether there are held-out problems."""
        return self.problems.eval is not None or bool(self.evaluation.benchmarks)

    @property
    def longest_response(self) -> int:
        """The largest response limit of all that the run samples, in tokens; what its engine makes room for."""
        held_out = self.held_out_solution_tokens if self.evaluates else 0
        return max(self.rollout.max_solution_tokens, self.rollout.max_meta_tokens, held_out)

    def replace(self, *change: Any, **changes: Any) -> Config:
        """This configuration with other values, checked like one that is read from a file; itself stays as it is.

        Written as ``replace("run.steps", 14)``, ``replace({"run.steps": 14, "run.seed": 1})``,
        ``replace(**{"run.steps": 14})`` or ``replace(run={"steps": 14})``.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type or range.
            TypeError: arguments of another form.
        """
        from masa.config.load import changed_config

        if len(change) == 2 and isinstance(change[0], str):
            changes = {change[0]: change[1], **changes}
        elif len(change) == 1 and isinstance(change[0], Mapping):
            changes = {**change[0], **changes}
        elif change:
            raise TypeError(
                f"replace: found {', '.join(map(repr, change))}; allowed: a key and a value, replace('run.steps', 14), "
                "or a mapping, replace({'run.steps': 14})"
            )
        return changed_config(self, changes)

    @model_validator(mode="after")
    def _dynamic_sampling_fits(self) -> Config:
        if not self.algorithm.dynamic_sampling.enabled:
            return self
        for name in ("gating", "cutoff", "hinting"):
            if getattr(self.controls, name).enabled:
                raise ValueError(
                    f"algorithm.dynamic_sampling.enabled and controls.{name}.enabled exclude each other: the problems "
                    "that it draws would not be shaped by the control"
                )
        return self

    @model_validator(mode="after")
    def _partial_fits(self) -> Config:
        if not self.rollout.partial:
            return self
        if self.algorithm.dynamic_sampling.enabled:
            raise ValueError(
                "rollout.partial and algorithm.dynamic_sampling.enabled exclude each other: whether a slot takes "
                "another problem shows when its group is whole, which may be in a later step"
            )
        controls = self.controls
        decides = [
            f"controls.{name}.enabled" for name in ("gating", "cutoff", "hinting") if getattr(controls, name).enabled
        ]
        if controls.selection_method != "none":
            decides.append(f"controls.selection.method {controls.selection_method!r}")
        if decides:
            raise ValueError(
                f"rollout.partial and {decides[0]} exclude each other: what is decided about a problem is measured in "
                "the step that decides it, and a problem that is put aside ends in another one"
            )
        return self

    @model_validator(mode="after")
    def _controls_fit(self) -> Config:
        controls, limit = self.controls, self.rollout.max_solution_tokens
        for name in ("expert", "gating", "cutoff", "hinting"):
            if getattr(controls, name).enabled and not self.algorithm.meta:
                raise ValueError(f"controls.{name}.enabled needs meta-predictions, but algorithm.meta is false")
        require_selection_fits(
            controls.selection_method,
            meta=self.algorithm.meta,
            dynamic_sampling=self.algorithm.dynamic_sampling.enabled,
            sources=self.problems.train_sources,
        )
        self.require_metas_judge(controls.selection_method)
        if (metric := controls.stabilised.metric) is not None and not self.algorithm.meta:
            raise ValueError(
                f"controls.stabilised.metric is {metric}, a reward of meta-predictions, but algorithm.meta is false; "
                "allowed without them: null"
            )
        if controls.cutoff.enabled and controls.cutoff.floor > limit:
            raise ValueError(
                f"controls.cutoff.floor is {controls.cutoff.floor}, allowed is at most "
                f"rollout.max_solution_tokens ({limit})"
            )
        return self

    def require_metas_judge(self, method: str) -> None:
        """Check the options of metas that judge problems against the method of selection.

        Raises:
            ValueError: one of them is set, and ``method`` judges by something else.
        """
        options = (
            ("algorithm.num_metas_when_calibrated", self.algorithm.num_metas_when_calibrated, None),
            ("controls.selection.keep_predictions", self.controls.selection.keep_predictions, 0),
            ("controls.gating.gated_metas", self.controls.gating.gated_metas, "unrewarded"),
        )
        for option, value, unset in options:
            if value != unset:
                require_gate_by_metas(option, value, method)

    @model_validator(mode="after")
    def _cold_start_fits(self) -> Config:
        if self.cold_start.enabled and not self.algorithm.meta:
            raise ValueError("cold_start.enabled teaches meta-predictions, but algorithm.meta is false")
        return self

    @model_validator(mode="after")
    def _meta_price_fits(self) -> Config:
        price, limit = self.rewards.meta_length_price, self.rollout.max_meta_tokens
        if price.price and price.free_tokens >= limit:
            raise ValueError(
                f"rewards.meta_length_price.free_tokens is {price.free_tokens}, allowed with a price is less than "
                f"rollout.max_meta_tokens ({limit})"
            )
        return self

    @model_validator(mode="after")
    def _stop_texts_fit(self) -> Config:
        for text in self.rollout.stop:
            if self.algorithm.meta and any(text in tag for tag in ("<meta>", "</meta>")):
                raise ValueError(
                    f"rollout.stop: found {text!r}, which is part of <meta> and </meta> and would end every "
                    "meta-prediction before its JSON object; allowed: texts that are not"
                )
        return self

    @model_validator(mode="after")
    def _one_distribution(self) -> Config:
        """Engines leave out of their log-probs what top-p, top-k or min-p cuts away; the policy's have all tokens."""
        rollout, algorithm = self.rollout, self.algorithm
        cut = [
            (key, found, neutral)
            for key, neutral in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0))
            for found in (getattr(rollout, key),)
            if found != neutral
        ]
        why = "algorithm.tis_cap" if algorithm.tis_cap is not None else "algorithm.correction"
        if algorithm.updates_per_step > 1:
            why = f"algorithm.updates_per_step {algorithm.updates_per_step}"
        if cut and (algorithm.corrects or algorithm.updates_per_step > 1):
            key, found, neutral = cut[0]
            raise ValueError(
                f"rollout.{key} is {found}, allowed with {why} is {neutral}: samples come from a truncated "
                "distribution, whose log-probs are not the policy's, and ratios of the two are no importance weights"
            )
        return self

    @model_validator(mode="after")
    def _overlong_fits(self) -> Config:
        punish, limit = self.algorithm.overlong.punish_tokens, self.rollout.max_solution_tokens
        if punish >= limit:
            raise ValueError(
                f"algorithm.overlong.punish_tokens is {punish}, allowed is less than "
                f"rollout.max_solution_tokens ({limit})"
            )
        return self
