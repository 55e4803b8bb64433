"""What a run came to: summary.json, computed from the run's own rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from masa.tracking import keys
from masa.tracking.metrics import finite_values, mean_of_tenth
from masa.tracking.warning_signs import sign_history

_ALIGNMENT = {
    "r_difficulty": keys.R_DIFFICULTY,
    "r_length": keys.R_LENGTH,
    "r_notion": keys.R_NOTION,
    "r_meta": keys.R_META,
}


def summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of a run from its metrics rows (row 0 is the evaluation before the first step).

    ``*_first`` and ``*_last`` are means over the first and the last tenth of the steps; accuracies are held-out pass@1.
    ``accuracy_before`` is that of step 0, ``accuracy_after`` the last one measured once training began.
    What a run did not measure is null. ``warning_signs`` has the first and the last step of each sign that was seen.
    ``wall_seconds`` adds up steps and evaluations, also across a resume.
    """
    steps = [row for row in rows if row["step"] > 0]
    before = finite_values([row for row in rows if row["step"] == 0], keys.HELD_OUT_ACCURACY)
    after = finite_values(steps, keys.HELD_OUT_ACCURACY)
    tenths: tuple[Literal["first", "last"], ...] = ("first", "last")
    alignment = {
        f"{name}_{which}": mean_of_tenth(steps, key, which) for name, key in _ALIGNMENT.items() for which in tenths
    }
    return {
        "accuracy_before": before[0] if before else None,
        "accuracy_after": after[-1] if after else None,
        **alignment,
        "correctness_first": mean_of_tenth(steps, keys.CORRECTNESS, "first"),
        "correctness_last": mean_of_tenth(steps, keys.CORRECTNESS, "last"),
        "steps": len(steps),
        "warning_signs": sign_history(steps),
        "wall_seconds": math.fsum(
            value for key in (keys.STEP_SECONDS, keys.EVALUATION_SECONDS) for value in finite_values(rows, key)
        ),
        "tokens_generated": int(math.fsum(finite_values(rows, keys.TOKENS_GENERATED))),
    }
