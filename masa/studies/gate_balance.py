"""What a gate saves against what its metas cost, by formula: where it breaks even, and what it should have saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from masa.studies.comparison import mean
from masa.studies.record import Record

GATE_PRECISION = "control/gate_precision"
GATED_SHARE = "control/gated_share"
# Of methods that flag problems, and not of those that rank them: what these leave out is not said to be flat.
GATE_OPEN = "control/gate_open"


@dataclass(frozen=True)
class GateBalance:
    """A gate's balance over a run, or over the mean of several; all are shares out of 1 but ``saving``.

    With solutions of L tokens, a problem that is solved costs G L and one that is drawn M l for its metas.

    Attributes:
        ratio: r = M l / (G L), the metas of a drawn problem over the solutions of a solved one, in tokens.
        gated: q, the share of the drawn problems that were gated.
        precision: p, the share of the gated problems whose groups would have been flat, by the audits: the precision
            of each part of the run, weighted by the problems that were gated in it.
        informative: u, the share of the baseline's groups that are not flat.
        break_even: the q at which the gate pays its metas back; inf where its precision is too low for any q.
        saving: informative groups for each generated token, as a multiple of the baseline's, that follow from these.
        measured: the same, counted: the arm's policy is another one, and so are the groups that it solves.
    """

    ratio: float
    gated: float
    precision: float
    informative: float
    break_even: float
    saving: float
    measured: float


def gate_balance(arm: Sequence[Record], baseline: Sequence[Record]) -> GateBalance | None:
    """The balance of an arm's runs; None where there was no gate, it gated no problem, or no precision is known.

    Of N drawn problems (1 - q) N are solved, at (r + 1 - q) N G L tokens; (u - q (1 - p)) N groups are informative.
    Plain GRPO has u N informative groups for N G L tokens. The quotient is the saving, and it is 1 at
    q = r / (1 - (1 - p) / u).
    """
    drawn = math.fsum(one.totals["cost/problems_drawn"] for one in arm)
    gated = math.fsum(one.totals["cost/problems_gated"] for one in arm)
    precision = _precision(arm)
    if not gated or precision is None or not any(GATE_OPEN in one.course for one in arm):
        return None
    metas = math.fsum(one.totals["cost/meta_tokens"] for one in arm)
    solutions = math.fsum(one.totals["cost/solution_tokens"] for one in arm)
    ratio = (metas / drawn) / (solutions / (drawn - gated))
    informative = mean([1 - _flat(one) for one in baseline])
    share = gated / drawn
    lost = (1 - precision) / informative if informative else math.inf
    return GateBalance(
        ratio=ratio,
        gated=share,
        precision=precision,
        informative=informative,
        break_even=ratio / (1 - lost) if lost < 1 else math.inf,
        saving=max(0.0, 1 - share * lost) / (1 - share + ratio),
        measured=_informative_a_token(arm) / _informative_a_token(baseline) if informative else math.nan,
    )


def _informative_a_token(records: Sequence[Record]) -> float:
    """Solved groups that are not flat, for each generated token."""
    solved = (one.totals["cost/problems_drawn"] - one.totals["cost/problems_gated"] for one in records)
    groups = math.fsum(count * (1 - _flat(one)) for count, one in zip(solved, records, strict=True))
    return groups / math.fsum(one.totals["tokens"] for one in records)


def _precision(arm: Sequence[Record]) -> float | None:
    """The mean of what is known, weighted by the gated problems; None where no precision goes with any of these."""
    weighted = [
        (_gated(share or 0.0, one), precision)
        for one in arm
        for share, precision in zip(one.course.get(GATED_SHARE, []), one.course.get(GATE_PRECISION, []), strict=True)
        if precision is not None
    ]
    total = math.fsum(weight for weight, _ in weighted)
    return math.fsum(weight * precision for weight, precision in weighted) / total if total else None


def _gated(share: float, record: Record) -> float:
    """Problems gated in a step, over the step's places, where this share of the drawn ones was."""
    if record.options.get("controls.gating.gated") == "leave_out":
        return share
    return share / (1 - share)


def _flat(record: Record) -> float:
    """Mean share of the groups with equal rewards."""
    both = [record.course["rollout/solved_all"], record.course["rollout/solved_none"]]
    return math.fsum(mean([value for value in values if value is not None]) for values in both)
