"""The memory model against the peaks of torch's allocator over whole updates."""

from __future__ import annotations

import pytest
from measured_peaks import CASES, Case, measured_peak, predicted

_BY_DEFAULT = {
    "as it is",
    "one micro-batch, checkpointing",
    "vocabulary 65,536, blocks of it, checkpointing",
    "LoRA, rank 8",
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case.name in _BY_DEFAULT else pytest.mark.slow) for case in CASES],
)
def test_the_peak_of_an_update_is_what_the_formulas_say(case: Case) -> None:
    formula, _, _ = predicted(case)
    assert formula == pytest.approx(measured_peak(case), rel=0.15)
