"""When meta-awareness has stabilised: the moment from which controls act."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from masa.config.controls import StabilisedSection


class Stabilised:
    """Watches one meta reward; once its exponential mean has crossed the threshold, it stays crossed.

    The mean after n values x_1..x_n is sum_i w_i x_i / sum_i w_i with w_i = ema ** (n - i): corrected for its start.
    ``since`` is the step after whose end the controls were switched on (0: from the beginning), None until then.
    """

    def __init__(self, section: StabilisedSection) -> None:
        self._section = section
        self._sum = 0.0
        self._weight = 0.0
        self.since: int | None = None
        self._decide(0)

    @property
    def mean(self) -> float:
        """The exponential mean so far; NaN before the first value."""
        return self._sum / self._weight if self._weight else math.nan

    def observe(self, step: int, rewards: Mapping[str, float]) -> None:
        """Take in the means of step ``step``; a missing or NaN value leaves the mean as it is."""
        value = rewards.get(self._section.metric) if self._section.metric else None
        if value is not None and not math.isnan(value):
            self._sum = self._section.ema * self._sum + value
            self._weight = self._section.ema * self._weight + 1.0
        self._decide(step)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum, "weight": self._weight, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sum = float(state["sum"])
        self._weight = float(state["weight"])
        self.since = state["since"]

    def _decide(self, step: int) -> None:
        section = self._section
        crossed = section.metric is None or self.mean >= section.above
        if self.since is None and step >= section.after_step and crossed:
            self.since = step
