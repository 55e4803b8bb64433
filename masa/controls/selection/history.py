"""Selection by flat groups in a row: GRESO (Zheng et al. 2025, arXiv 2506.02177)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masa.config.selection import HistorySection
from masa.controls.gating import Judgement, is_drawn
from masa.controls.selection.selector import Evidence, Need, Outcome

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem


class HistorySelector:
    """Skips a problem with a probability that grows with the number of flat groups it has had in a row.

    With z such groups, all correct or all incorrect, the problem is flagged with probability 1 - p ** z (arXiv
    2506.02177, equation 2), p being the exploration probability of its kind. After each step p falls by ``adjustment``
    where the share of groups of that kind was above what is wanted, and rises by it otherwise (algorithm 1 there); it
    stays between ``adjustment`` and 1, so that no problem is given up for good. A group that is not flat, or is flat of
    the other kind, begins the count anew. A problem never solved is not flagged.
    """

    needs: Need = "nothing"
    ranks = False

    def __init__(self, section: HistorySection, run_seed: int) -> None:
        self._section = section
        self._seed = run_seed
        self._exploration = {"trivial": section.exploration, "unsolvable": section.exploration}
        self._streaks: dict[str, tuple[str, int]] = {}

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {one.problem.id: self._judge(step, one.problem.id) for one in candidates}

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        kinds = []
        for one in outcomes:
            kind = ("trivial" if one.correct else "unsolvable") if one.flat else None
            kinds.append(kind)
            if kind is None:
                self._streaks.pop(one.problem, None)
            else:
                before, length = self._streaks.get(one.problem, (kind, 0))
                self._streaks[one.problem] = (kind, length + 1 if before == kind else 1)
        if outcomes:
            wanted = {"trivial": self._section.trivial_share, "unsolvable": self._section.unsolvable_share}
            for kind, share in wanted.items():
                self._adjust(kind, down=kinds.count(kind) > share * len(outcomes))
        return {f"control/history_{kind}_exploration": value for kind, value in self._exploration.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "exploration": dict(self._exploration),
            "streaks": {id: list(streak) for id, streak in self._streaks.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._exploration = {kind: float(state["exploration"][kind]) for kind in self._exploration}
        self._streaks = {id: (str(kind), int(length)) for id, (kind, length) in state["streaks"].items()}

    def _judge(self, step: int, id: str) -> Judgement:
        if id not in self._streaks:
            return Judgement("open")
        kind, length = self._streaks[id]
        solved = self._exploration[kind] ** length
        if not is_drawn(1.0 - solved, self._seed, step, id, "selection by history"):
            return Judgement("open")
        return Judgement("trivial" if kind == "trivial" else "unsolvable", (solved, 0.0))

    def _adjust(self, kind: str, *, down: bool) -> None:
        step = self._section.adjustment
        changed = self._exploration[kind] + (-step if down else step)
        self._exploration[kind] = min(1.0, max(step, changed))
