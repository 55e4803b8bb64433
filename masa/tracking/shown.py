"""The rows that a run's progress shows, whatever shows them: label, first and last window, newest value, course."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.tracking import keys
from masa.tracking.metrics import finite_values, mean_of_tenth
from masa.tracking.windows import even_windows

Row = Mapping[str, Any]
# The label of a share that no row of metrics holds, and the key under which it is put into them.
FLAT = "flat groups"
# Label, key, decimals. Keys that a run never reports leave no row.
SHOWN: tuple[tuple[str, str, int], ...] = (
    ("held-out accuracy", keys.HELD_OUT_ACCURACY, 3),
    ("correctness", keys.CORRECTNESS, 3),
    ("r_meta", keys.R_META, 3),
    ("r_length", keys.R_LENGTH, 3),
    ("r_difficulty", keys.R_DIFFICULTY, 3),
    ("r_notion", keys.R_NOTION, 3),
    ("metas parsed", keys.PARSE_RATE, 3),
    (FLAT, FLAT, 3),
    ("solutions truncated", "rollout/solution_truncated", 3),
    ("problems gated", "control/gated_share", 3),
    ("entropy, nats", "policy/entropy", 3),
    ("solution length, tokens", keys.SOLUTION_LENGTH, 1),
    ("meta length, tokens", keys.META_LENGTH, 1),
    ("tokens generated", keys.TOKENS_GENERATED, 0),
    ("tokens a second", "time/tokens_per_second", 0),
    ("seconds a step", keys.STEP_SECONDS, 2),
)
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class ShownMetric:
    """One metric over the steps so far: means over the first and the last tenth, and all finite ``values``."""

    label: str
    first: float
    last: float
    values: tuple[float, ...]
    decimals: int

    def text(self, value: float) -> str:
        """A value as it is shown."""
        return f"{value:,.{self.decimals}f}"

    @property
    def now(self) -> float:
        """The newest value."""
        return self.values[-1]

    @property
    def range(self) -> str:
        """Lowest and highest value: what the ends of the metric's course stand for."""
        return f"{self.text(min(self.values))} to {self.text(max(self.values))}"


def shown_metrics(history: Sequence[Row]) -> list[ShownMetric]:
    """What is shown of the metrics rows of a run, oldest first; metrics without a finite value are left out."""
    found = []
    rows = [_with_flat_share(row) for row in history]
    for label, key, decimals in SHOWN:
        first, last = mean_of_tenth(rows, key, "first"), mean_of_tenth(rows, key, "last")
        if first is not None and last is not None:
            values = tuple(finite_values(rows, key))
            found.append(ShownMetric(label, first, last, values, decimals))
    return found


def trend(values: Sequence[float], width: int = 24) -> str:
    """``values`` as at most ``width`` block characters, each the mean of its share of the values."""
    means = window_means(values, width)
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[3] * len(means)
    return "".join(_BLOCKS[round((mean - low) / (high - low) * (len(_BLOCKS) - 1))] for mean in means)


def window_means(values: Sequence[float], windows: int) -> list[float]:
    """Means of ``values`` over at most ``windows`` windows of equal size, oldest first."""
    return [math.fsum(window) / len(window) for window in even_windows(values, windows)]


def _with_flat_share(row: Row) -> Row:
    """The row with the share of problems that no solution or every solution gets right: groups without an advantage."""
    parts = [row.get("rollout/solved_none"), row.get("rollout/solved_all")]
    return row if None in parts else {**row, FLAT: math.fsum(part for part in parts if part is not None)}
