"""The options of a cold start (docs/cold_start.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from masa.config.section import AutoSwitch, NonNegativeInt, PositiveFloat, PositiveInt, Section


class ColdStartSection(Section):
    """A cold start teaches a policy the form of meta-predictions, on its own measured solutions, before the first step.
    `python -m masa.cold_start` does it alone, whatever `enabled` says."""

    enabled: bool = False
    """Do a cold start before the first step of the run."""
    problems: Annotated[int, Field(ge=2)] = 128
    """Training problems that are solved `algorithm.num_solutions` times each; their measured pass rates and lengths
    are what the written meta-predictions say."""
    held_out: PositiveInt = 32
    """How many of `problems` are set aside and never cloned. On them it is measured how many meta-predictions can be
    read."""
    num_metas: PositiveInt = 2
    """Meta-predictions sampled for each held-out problem whenever that is measured."""
    until_parsed: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Cloning ends when this share of the held-out meta-predictions can be read in full: notions, pass rate and
    length."""
    check_every: PositiveInt = 10
    """Number of updates between measurements of the share of meta-predictions that can be read."""
    max_updates: PositiveInt = 200
    """Cloning ends after this many updates in any case."""
    batch_size: PositiveInt = 16
    """Problems of an update: a written meta-prediction of each, and a solution where `solutions` says so."""
    learning_rate: PositiveFloat = 1.0e-5
    """Learning rate of the updates, constant; the optimiser starts fresh afterwards."""
    solutions: AutoSwitch = "on"
    """Clone a solution of each problem as well: one of its own that the verifier accepted, else the worked one of the
    data, if the verifier accepts that. `auto`: where over a tenth of the solutions reached the response limit or hold
    no answer that the verifier could read."""
    max_notions: NonNegativeInt = 3
    """The most notions that a written meta-prediction may have."""
    thoughts: str | None = None
    """File with one template a line for the thoughts before the prediction, in jinja2 with `notions`, `pass_rate`,
    `pass_rate_total` and `solution_length`; null: those of the package."""
    response: str = "<meta>\n{{ thoughts }}\n</meta>\n{{ prediction }}"
    """The form of a written meta-prediction, in jinja2: that which `prompts.meta` asks for. `prediction` is the JSON
    object."""
    checkpoint_every: NonNegativeInt = 50
    """Number of updates between checkpoints; one is always saved after the last. 0: only then."""

    @model_validator(mode="after")
    def _some_problems_are_cloned(self) -> ColdStartSection:
        if self.held_out >= self.problems:
            raise ValueError(f"held_out is {self.held_out}, allowed is less than problems ({self.problems})")
        return self
