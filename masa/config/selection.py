"""The options of problem selection (docs/selection.md): which problems of a draw are worth solving, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from masa.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section, Share

METHODS = ("none", "meta", "combined", "history", "posterior", "markov", "value_head", "oracle")
# The methods that judge by meta-predictions.
BY_METAS = ("meta", "combined")
# Those behind a gate, which audits open and close; the others rank.
FLAGGING = (*BY_METAS, "history", "oracle")


class CombinedSection(Section):
    """Meta-predictions together with a Beta posterior of each problem's pass rate."""

    discount: Share = 0.99
    """What is left, after each training step, of the weight of earlier solutions and of how well predictions and
    history agreed with them. `controls.gating.gated_metas: history` discounts its pass rates in the same way."""


class HistorySection(Section):
    """GRESO: skip problems whose last groups were flat, the surer the longer they have been so."""

    exploration: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Probability at the start that a problem with one flat group is solved again; two in a row: its square, and so
    on. There is one for solved and one for unsolved groups."""
    adjustment: Share = 0.01
    """After each step the two probabilities fall by this where flat groups were more than wanted, and rise
    otherwise."""
    trivial_share: Share = 1 / 12
    """Wanted share of the solved problems whose solutions were all correct."""
    unsolvable_share: Share = 1 / 6
    """Wanted share of the solved problems whose solutions were all incorrect."""


class PosteriorSection(Section):
    """MoPPS: a Beta posterior of each problem's pass rate."""

    discount: Share = 0.5
    """What is left of earlier solutions' weight each time a problem is solved again."""


class MarkovSection(Section):
    """DPS: a hidden Markov model of each problem with the states none, some and all solved."""

    decay: Share = 0.9
    """What is left of the counted transitions each step; the rest returns to the prior."""
    prior: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Prior count of each transition."""


class ValueHeadSection(Section):
    """PCL: a linear head on the policy's last hidden state of the solution prompt."""

    learning_rate: PositiveFloat = 0.01
    """Adam's learning rate of the head."""
    updates: PositiveInt = 4
    """Adam steps on the problems of each training step."""


class SelectionSection(Section):
    """Which problems are worth solving. All methods are audited alike, by `controls.gating.audit_share`."""

    method: str | None = None
    """`none`: all; `meta`: predictive gating by meta-predictions; `combined`: the gate by these and the
    problem's own pass rates so far; `history`: GRESO; `posterior`: MoPPS; `markov`: DPS; `value_head`: PCL; `oracle`:
    what the solutions turn out to be, uncounted, in embedded worlds alone; `module:Class`: a method of your own
    (docs/custom.md). Null: `meta` where `controls.gating.enabled`, else `none`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the class of a method of your own is called with, by name."""
    candidates: Annotated[float, Field(ge=1, le=16)] = 2.0
    """`posterior`, `markov` and `value_head`, and a method of your own that ranks, draw this many times as many
    problems as a step takes, and keep the best."""
    target: Share = 0.5
    """`posterior` and `value_head` keep the problems whose pass rate is expected nearest to this."""
    keep_predictions: NonNegativeInt = 0
    """A problem whose last measured prediction was right is judged by it again, without new metas, in steps in which
    that prediction is younger than this many steps; 0: every drawn problem gets metas. Needs a gate that judges by
    meta-predictions."""
    combined: CombinedSection = CombinedSection()
    history: HistorySection = HistorySection()
    posterior: PosteriorSection = PosteriorSection()
    markov: MarkovSection = MarkovSection()
    value_head: ValueHeadSection = ValueHeadSection()

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in METHODS and not is_own(name):
            raise ValueError(f"found {name!r}, allowed: {', '.join(METHODS)}, or module:Class")
        return name

    @model_validator(mode="after")
    def _arguments_have_a_class(self) -> SelectionSection:
        if self.arguments and not is_own(self.method or ""):
            raise ValueError(
                f"arguments has {', '.join(self.arguments)}, but method is {self.method!r}; allowed: arguments of a "
                "method of your own, module:Class"
            )
        return self


def is_own(method: str) -> bool:
    """Whether a method is the user's own, named by its import path."""
    return ":" in method


def require_gate_by_metas(option: str, value: object, method: str) -> None:
    """An option of metas that judge needs a gate that judges by them.

    What a method of the user's own judges by is known once it is imported (`masa.controls.own.selection`).

    Raises:
        ValueError: another method selects, or none.
    """
    if method not in BY_METAS and not is_own(method):
        raise ValueError(
            f"{option} is {value}, which needs a gate that judges by meta-predictions: controls.gating.enabled, or "
            f"controls.selection.method {' or '.join(BY_METAS)}, or one of your own that needs metas; the "
            f"method is {method!r}"
        )


def require_selection_fits(method: str, *, meta: bool, dynamic_sampling: bool, sources: Sequence[str]) -> None:
    """What a selection method asks of the rest of a configuration; ``sources`` are those of the training problems.

    Raises:
        ValueError: it is something else.
    """
    named = f"controls.selection.method {method!r}"
    if method in BY_METAS and not meta:
        raise ValueError(f"{named} needs meta-predictions, but algorithm.meta is false")
    if method != "none" and dynamic_sampling:
        raise ValueError(
            f"{named} and algorithm.dynamic_sampling.enabled exclude each other: the problems that dynamic sampling "
            "draws would not be selected"
        )
    if method == "oracle":
        require_practicable(named, sources)


def require_practicable(named: str, sources: Sequence[str]) -> None:
    """What solves every problem beforehand is for studies, in embedded worlds.

    Raises:
        ValueError: the training problems are others.
    """
    others = [one for one in sources if not one.startswith("embedded")]
    if others:
        raise ValueError(
            f"{named} solves every problem uncounted, to study what the best method could gain; problems.train is "
            f"{others[0]!r}, allowed are embedded problems"
        )
