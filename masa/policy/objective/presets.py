"""Named algorithms: each one a choice of advantage and of loss parameters, nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from masa.policy.objective.parameters import AdvantageParameters, LossParameters


@dataclass(frozen=True)
class Algorithm:
    """How rewards become advantages and advantages become a loss."""

    advantage: AdvantageParameters
    loss: LossParameters


PRESETS: Mapping[str, Algorithm] = MappingProxyType(
    {
        # Shao et al. 2024 (DeepSeekMath), eq. 3. The KL term is off, as in the MASA paper's runs.
        "grpo": Algorithm(AdvantageParameters(), LossParameters()),
        # Yu et al. 2025, eq. 8: clip-higher and one mean over all tokens of the batch.
        "dapo": Algorithm(AdvantageParameters(), LossParameters(clip_high=0.28, aggregation="token")),
        # Liu et al. 2025 ("Understanding R1-Zero-like training"), section 3.2: no std, a constant normaliser.
        "dr_grpo": Algorithm(AdvantageParameters(scale="none"), LossParameters(aggregation="constant")),
        # Zheng et al. 2025, eq. 5 to 7; the clip range is the one of its section 5.1.
        "gspo": Algorithm(AdvantageParameters(), LossParameters(clip_low=3e-4, clip_high=4e-4, ratio_level="sequence")),
        # MiniMax-M1, eq. 4 and 5: no lower bound (a ratio is never below 0); the upper bound is a weight of 5.
        "cispo": Algorithm(
            AdvantageParameters(), LossParameters(clip_low=1.0, clip_high=4.0, objective="cispo", aggregation="token")
        ),
        # Ahmadian et al. 2024: leave-one-out baseline; the token sum has a constant divisor, so no length is favoured.
        "rloo": Algorithm(
            AdvantageParameters(scale="none", leave_one_out=True), LossParameters(aggregation="constant")
        ),
    }
)


def preset(name: str) -> Algorithm:
    """The algorithm of that name; change single parameters with :func:`dataclasses.replace`.

    Raises:
        ValueError: an unknown name; the message has the known ones and the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"; nearest: {near[0]!r}" if near else ""
    raise ValueError(f"no algorithm preset {name!r}; known are {', '.join(PRESETS)}{hint}")
