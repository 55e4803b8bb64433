"""Selection by a hidden Markov model of each problem: DPS (Mao et al. 2026, arXiv 2603.10887)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.config.selection import MarkovSection
from masa.controls.gating import Judgement
from masa.controls.selection.selector import Evidence, Need, Outcome

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

Row = tuple[float, float, float]
# None, some or all of a problem's solutions are correct.
STATES = ("none", "some", "all")
_SOME = STATES.index("some")
_UNIFORM: Row = (1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True)
class Chain:
    """One problem's model after step ``step``.

    ``counts[j][i]`` is the Dirichlet parameter of the transition from state i to state j, ``now`` the distribution over
    states at that step, ``ahead`` the predicted one of the step after it.
    """

    counts: tuple[Row, Row, Row]
    now: Row
    ahead: Row
    step: int


class MarkovSelector:
    """Keeps the problems that are most likely partly solved.

    With P the mean of the transition matrix, P_ji = c_ji / sum_j c_ji, the prediction is ahead = P now. Solutions show
    the state itself. Observed in state j, the transitions gain the expected counts now_i P_ji e_j / sum (Baum-Welch's,
    of one transition), after c = decay c + (1 - decay) prior has forgotten. A step in which the problem is not solved
    has no counts, and its prediction takes the observation's place. A problem never solved may be in any state alike.
    """

    needs: Need = "nothing"
    ranks = True

    def __init__(self, section: MarkovSection) -> None:
        self._section = section
        self._chains: dict[str, Chain] = {}

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {
            one.problem.id: Judgement("open", (1.0 - self._chain_before(step, one.problem.id).ahead[_SOME], 0.0))
            for one in candidates
        }

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        for one in outcomes:
            state = 0 if one.correct == 0 else 2 if one.correct == one.total else 1
            self._chains[one.problem] = self._observed(self._chain_before(step, one.problem), step, state)
        return {"control/markov_problems": float(len(self._chains))}

    def state_dict(self) -> dict[str, Any]:
        return {
            "chains": {
                id: {
                    "counts": [list(row) for row in one.counts],
                    "now": list(one.now),
                    "ahead": list(one.ahead),
                    "step": one.step,
                }
                for id, one in self._chains.items()
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._chains = {
            id: Chain(
                (_row(one["counts"][0]), _row(one["counts"][1]), _row(one["counts"][2])),
                _row(one["now"]),
                _row(one["ahead"]),
                int(one["step"]),
            )
            for id, one in state["chains"].items()
        }

    def _chain_before(self, step: int, id: str) -> Chain:
        """The problem's model after the step before ``step``."""
        chain = self._chains.get(id)
        if chain is None:
            prior = (self._section.prior,) * 3
            return Chain((prior, prior, prior), _UNIFORM, _UNIFORM, step - 1)
        while chain.step < step - 1:
            counts = self._decayed(chain.counts)
            chain = Chain(counts, chain.ahead, predict(counts, chain.ahead), chain.step + 1)
        # The same numbers, kept so that no step is gone through twice.
        self._chains[id] = chain
        return chain

    def _observed(self, before: Chain, step: int, state: int) -> Chain:
        expected = [share * now for share, now in zip(transitions(before.counts)[state], before.now, strict=True)]
        total = sum(expected)
        rows = [list(row) for row in self._decayed(before.counts)]
        # Without any weight on where it may come from there is no transition to count.
        rows[state] = [old + (new / total if total else 0.0) for old, new in zip(rows[state], expected, strict=True)]
        counts = (_row(rows[0]), _row(rows[1]), _row(rows[2]))
        now = _row([1.0 if number == state else 0.0 for number in range(3)])
        return Chain(counts, now, predict(counts, now), step)

    def _decayed(self, counts: tuple[Row, Row, Row]) -> tuple[Row, Row, Row]:
        decay, prior = self._section.decay, self._section.prior
        first, second, third = (_row([decay * one + (1.0 - decay) * prior for one in row]) for row in counts)
        return first, second, third


def transitions(counts: Sequence[Sequence[float]]) -> list[list[float]]:
    """The mean transition matrix of Dirichlet parameters, [to][from]; its columns sum to 1."""
    totals = [sum(row[state] for row in counts) for state in range(3)]
    return [[one / total for one, total in zip(row, totals, strict=True)] for row in counts]


def predict(counts: Sequence[Sequence[float]], now: Row) -> Row:
    """The distribution over states one transition later, normalised against rounding."""
    ahead = [sum(share * one for share, one in zip(row, now, strict=True)) for row in transitions(counts)]
    total = sum(ahead)
    return _row([one / total for one in ahead])


def _row(values: Sequence[float]) -> Row:
    first, second, third = values
    return float(first), float(second), float(third)
