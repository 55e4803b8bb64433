"""Predictive gating with audits: which problems need no solutions, and how far that can be trusted.

A problem is *flagged* when its predicted pass rates agree that it is trivial or unsolvable. An open gate withholds
solutions from flagged problems, except from a random few: the audited ones. A closed gate withholds nothing, and every
flagged problem is an audit. A flag was right where the solutions turn out to have zero variance.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from masa.config.controls import GatingSection
from masa.controls.intervals import UNKNOWN, Estimate, proportion
from masa.problems.seeds import derive_seed

Outlook = Literal["open", "trivial", "unsolvable"]

_SEED_RANGE = 2.0**63
# What products of shares and counts may be off by: 0.29 * 100 is less than 29.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Judgement:
    """What the M predictions of one problem come to. ``doubt`` orders flagged problems, the surest first."""

    outlook: Outlook
    doubt: tuple[float, float] = (0.0, 0.0)

    @property
    def flagged(self) -> bool:
        return self.outlook != "open"


def judge(pass_rates: Sequence[float | None], section: GatingSection) -> Judgement:
    """Flag a problem where the parsed predictions agree (population std) and their mean passes a threshold."""
    parsed = readable(pass_rates, section)
    if parsed is None:
        return Judgement("open")
    return outlook(statistics.fmean(parsed), statistics.pstdev(parsed), section)


def readable(pass_rates: Sequence[float | None], section: GatingSection) -> list[float] | None:
    """The parsed predictions; None where they are fewer than two, or than the share that must be."""
    parsed = [rate for rate in pass_rates if rate is not None]
    return None if len(parsed) < 2 or len(parsed) < section.min_parsed * len(pass_rates) - _ROUNDING else parsed


def outlook(mean: float, spread: float, section: GatingSection) -> Judgement:
    """What an expected pass rate and its standard deviation come to."""
    if spread >= section.max_std:
        return Judgement("open")
    if mean >= section.trivial:
        return Judgement("trivial", (spread, 1.0 - mean))
    if section.unsolvable is not None and mean <= section.unsolvable:
        return Judgement("unsolvable", (spread, mean))
    return Judgement("open")


def is_drawn(share: float, run_seed: int, *what: int | str) -> bool:
    """A coin that falls to true with probability ``share``; it depends on the seed and on what it is for alone."""
    return derive_seed(run_seed, *what) < share * _SEED_RANGE


def gatings(section: GatingSection, slots: int, run_seed: int, step: int) -> list[int]:
    """How many problems each slot of a step may gate, one after the other, where gated problems are replaced.

    Together they may gate so many that with a solved problem a slot no more than ``max_share`` of all are gated; that
    is shared out before anything is sampled. Slots that may gate one more than others follow from seed and step.
    """
    total = int(slots * section.max_share / (1.0 - section.max_share) + _ROUNDING)
    each, over = divmod(total, slots)
    order = sorted(range(slots), key=lambda slot: (derive_seed(run_seed, step, slot, "gatings"), slot))
    found = [each] * slots
    for slot in order[:over]:
        found[slot] += 1
    return [min(one, section.max_rounds) for one in found]


@dataclass(frozen=True)
class GateDecision:
    """Problem ids of one draw: those without solutions, and the flagged that are solved all the same.

    ``audited`` were chosen at random, whatever their predictions, so they measure the gate; ``let_through`` were
    flagged with the most doubt, beyond the largest share that may be gated, so they do not.
    """

    gated: tuple[str, ...] = ()
    audited: tuple[str, ...] = ()
    let_through: tuple[str, ...] = ()


def decide(
    judgements: Mapping[str, Judgement], section: GatingSection, run_seed: int, step: int, *, is_open: bool
) -> GateDecision:
    """Who of the judged problems is gated: less than all, for ``max_share`` is below 1; by a closed gate none."""
    if not is_open:
        return GateDecision()
    flagged = [id for id, judgement in judgements.items() if judgement.flagged]
    audited = [id for id in flagged if is_drawn(section.audit_share, run_seed, step, id, "gate audit")]
    sure = sorted(set(flagged) - set(audited), key=lambda id: (judgements[id].doubt, id))
    most = int(section.max_share * len(judgements) + _ROUNDING)
    gated = set(sure[:most])
    return GateDecision(
        gated=tuple(id for id in flagged if id in gated),
        audited=tuple(audited),
        let_through=tuple(id for id in flagged if id not in gated and id not in audited),
    )


@dataclass(frozen=True)
class GateEvidence:
    """Counts of one step: flagged problems, those of them that were audited and had zero variance; and the others."""

    flagged: int
    audited: int
    audited_flat: int
    unflagged: int
    unflagged_flat: int


@dataclass(frozen=True)
class GateReading:
    """How good the flags are, over the newest evidence."""

    audits: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


class PredictiveGate:
    """Opens and closes itself around a target precision, on the evidence of the newest audits."""

    def __init__(self, section: GatingSection) -> None:
        self.section = section
        self.is_open = section.start == "open"
        self._evidence: list[GateEvidence] = []

    def observe(self, evidence: GateEvidence) -> None:
        """Take in a step's evidence, forget what is older than the window, and open or close.

        Without audits (``audit_share`` 0) there is nothing to go by once the gate is open: it stays as it starts.
        """
        self._evidence.append(evidence)
        while sum(one.audited for one in self._evidence[1:]) >= self.section.window:
            self._evidence.pop(0)
        reading = self.reading()
        if reading.audits < self.section.min_audits or not self.section.audit_share:
            return
        if self.is_open:
            self.is_open = reading.precision.high >= self.section.target_precision
        else:
            self.is_open = reading.precision.value >= self.section.target_precision

    @property
    def is_calibrated(self) -> bool:
        """Whether the gate is open, and enough audits have shown the precision that is asked for."""
        if not self.is_open:
            return False
        reading = self.reading()
        return reading.audits >= self.section.min_audits and reading.precision.value >= self.section.target_precision

    def reading(self) -> GateReading:
        """Precision from the audits; recall and F1 from it and the counts.

        With n flagged problems, of which the precision p says how many had zero variance, and m unflagged ones that
        had zero variance: recall = np / (np + m), F1 = 2np / (n + np + m). Both rise with p, so the ends of its
        Wilson interval give theirs.
        """
        flagged = sum(one.flagged for one in self._evidence)
        missed = sum(one.unflagged_flat for one in self._evidence)
        audits = sum(one.audited for one in self._evidence)
        precision = proportion(sum(one.audited_flat for one in self._evidence), audits, self.section.confidence)
        if not audits:
            return GateReading(0, UNKNOWN, UNKNOWN, UNKNOWN)
        ends = (precision.value, precision.low, precision.high)
        recall = Estimate(*(_ratio(flagged * p, flagged * p + missed) for p in ends))
        f1 = Estimate(*(_ratio(2 * flagged * p, flagged + flagged * p + missed) for p in ends))
        return GateReading(audits, precision, recall, f1)

    def state_dict(self) -> dict[str, Any]:
        return {"is_open": self.is_open, "evidence": [asdict(one) for one in self._evidence]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.is_open = bool(state["is_open"])
        self._evidence = [GateEvidence(**one) for one in state["evidence"]]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
