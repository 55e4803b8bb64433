"""Options of rewards: correctness, self-alignment, and functions of the user's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from masa.config.section import ImportedSource, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section


class MetaWeightsSection(Section):
    """Weights of the three self-alignment rewards in r_meta; 0 switches a component off."""

    length: NonNegativeFloat = 1.0
    """Weight of r_length, the reward of the predicted length, in r_meta."""
    difficulty: NonNegativeFloat = 1.0
    """Weight of r_difficulty, the reward of the predicted pass rate, in r_meta."""
    notion: NonNegativeFloat = 1.0
    """Weight of r_notion, the reward of the predicted notions, in r_meta."""

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> MetaWeightsSection:
        if self.length + self.difficulty + self.notion == 0:
            raise ValueError("all three weights are 0: use algorithm.meta=false for plain GRPO")
        return self


class RewardSource(ImportedSource):
    """A reward function of the user's own."""

    path: str
    """`module:name` of a function, or of a class whose objects are called like one."""
    name: str | None = None
    """Under which its values stand in metrics and samples; null: the function's own name."""
    weight: float = 1.0
    """Of its values in a solution's reward."""
    batched: bool = False
    """Whether it is called with all problems and responses of a step at once, as lists."""
    evaluate: bool = False
    """Whether held-out solutions are scored as well, under `eval/`."""


class MetaLengthPriceSection(Section):
    """What long meta-predictions lose of r_meta: price * (tokens - free_tokens) / (limit - free_tokens), never less
    than 0; the limit is `rollout.max_meta_tokens`."""

    price: NonNegativeFloat = 0.0
    """What a meta-prediction at the response limit loses; 0: length costs nothing."""
    free_tokens: NonNegativeInt = 256
    """Up to this many tokens length costs nothing; with a price it must be below the limit."""


class RewardsSection(Section):
    """Correctness, self-alignment and reward functions."""

    meta_weights: MetaWeightsSection = MetaWeightsSection()
    meta_length_price: MetaLengthPriceSection = MetaLengthPriceSection()
    difficulty_base: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """b in r_difficulty = b ** |d_pred - d_sol|."""
    notion_count: Literal["count", "rate"] = "count"
    """Compare how many correct and incorrect solutions hold a notion (`count`), or which share of each (`rate`)."""
    notion_match: Literal["form", "lemma"] = "form"
    """When two words of notions and solutions are the same: in case and regular plural (`form`), or in their English
    lemma, so that `factoring` is found in `factored` (`lemma`; needs the extra `lemma`)."""
    functions: list[RewardSource] = Field(default_factory=list)
    """Reward functions of your own, whose values are added to a solution's correctness: a list of
    `{path: module:function, name, weight, batched, evaluate, arguments}`, of which `path` alone is needed."""
    verifier_workers: PositiveInt = 2
    """Isolated processes that check answers, for each process of the run."""
    verifier_seconds: PositiveFloat = 5.0
    """Wall-clock limit in seconds of one check; a worker that exceeds it is killed and replaced."""
    verifier_memory_mb: Annotated[int, Field(ge=256)] = 2048
    """Memory limit of one worker, in MB."""
