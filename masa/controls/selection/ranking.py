"""Who is solved where candidates are ranked: the nearest, and the audited few of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping

from masa.controls.gating import GateDecision, Judgement, is_drawn


def keep_nearest(
    judgements: Mapping[str, Judgement], places: int, audit_share: float, run_seed: int, step: int
) -> GateDecision:
    """The candidates nearest to what is wanted fill ``places``, less those that an audit of the rest needs.

    Each candidate is drawn for an audit with probability ``audit_share``, whatever its rank; who was drawn and is not
    among the nearest is audited. Together exactly ``places`` are solved, or all where there are no more. Of equally
    near ones the first drawn are kept; a distance that is not a number is the farthest.
    """

    def distance(id: str) -> float:
        value = judgements[id].doubt[0]
        return math.inf if math.isnan(value) else value

    order = sorted(judgements, key=distance)
    drawn = [id for id in judgements if is_drawn(audit_share, run_seed, step, id, "gate audit")]
    audited = set(drawn[:places])
    solved, kept = len(audited), 0
    while kept < len(order) and solved < places:
        solved += order[kept] not in audited
        kept += 1
    beyond = set(order[kept:])
    return GateDecision(
        gated=tuple(id for id in judgements if id in beyond and id not in audited),
        audited=tuple(id for id in judgements if id in beyond and id in audited),
    )
