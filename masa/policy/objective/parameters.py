"""What tells one policy-gradient algorithm from another, as data: no tensor, no torch, so a config can import it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

AdvantageScale = Literal["std", "none", "batch"]
RatioLevel = Literal["token", "sequence"]
Objective = Literal["clip", "cispo"]
Aggregation = Literal["token", "sequence", "constant"]
KLEstimator = Literal["k1", "k2", "k3"]
CorrectionLevel = Literal["token", "sequence", "geometric"]
CorrectionMode = Literal["truncate", "mask"]


@dataclass(frozen=True)
class AdvantageParameters:
    """The arguments of :func:`masa.policy.objective.advantages.group_advantages`, named as there.

    ``own`` computes the advantages of a group in its place (`masa.policy.objective.own_parts.OwnAdvantage`).
    """

    scale: AdvantageScale = "std"
    leave_one_out: bool = False
    eps: float = 1e-6
    own: Callable[..., list[float]] | None = None

    def __post_init__(self) -> None:
        _require_choice("scale", self.scale, AdvantageScale)
        _require_number("eps", self.eps, low=0.0)


@dataclass(frozen=True)
class Correction:
    """Importance weights against the rollout engine's log-probs, and what bounds them.

    ``level``: one weight a token; one a response, the product over its counted tokens (``sequence``) or their geometric
    mean (``geometric``). ``truncate`` lowers a weight above ``upper`` to it; ``mask`` sets a weight outside of
    [``lower``, ``upper``] to 0 and leaves the others as they are. Sources: Yao et al. 2025 ("Your efficient RL
    framework secretly brings you off-policy RL training") for truncation, Ling Team 2025 (IcePop) for masks.

    Raises:
        ValueError: a bound out of its range, missing, or without effect.
    """

    level: CorrectionLevel
    mode: CorrectionMode
    upper: float
    lower: float | None = None

    def __post_init__(self) -> None:
        _require_choice("correction.level", self.level, CorrectionLevel)
        _require_choice("correction.mode", self.mode, CorrectionMode)
        _require_number("correction.upper", self.upper, above=0.0)
        if self.mode == "truncate":
            if self.lower is not None:
                raise ValueError(
                    f"correction.lower is {self.lower}; it has no effect with mode 'truncate', leave it out"
                )
            return
        if self.lower is None:
            raise ValueError("correction.lower is None; mode 'mask' needs both bounds, lower and upper")
        _require_number("correction.lower", self.lower, low=0.0)
        if self.lower >= self.upper:
            raise ValueError(f"correction.lower is {self.lower}; allowed is less than correction.upper ({self.upper})")


@dataclass(frozen=True)
class LossParameters:
    """Every choice that :func:`masa.policy.objective.losses.policy_loss` makes; the defaults are GRPO's.

    ``clip_low`` and ``clip_high`` bound the importance ratio to [1 - clip_low, 1 + clip_high]. ``dual_clip`` is the
    bound c > 1 of the ratio where the advantage is negative, ``None`` for no bound. ``ratio_level`` ``sequence`` takes
    one length-normalised ratio per response (GSPO). ``objective`` ``cispo`` stops the gradient of the clipped ratio
    and differentiates the log-probability instead. ``tis_cap`` bounds the weights that correct for the rollout
    engine's own log-probs, token by token; ``correction`` says any other kind of such weights; ``None``: no correction.
    ``terms`` are added to the loss of each token (`masa.policy.objective.own_parts.OwnLossTerm`). ``docs/policy.md``
    has each formula.

    Raises:
        ValueError: a value out of its range, or a combination in which one option would be without effect.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    ratio_level: RatioLevel = "token"
    objective: Objective = "clip"
    aggregation: Aggregation = "sequence"
    kl_coefficient: float = 0.0
    kl_estimator: KLEstimator = "k3"
    entropy_coefficient: float = 0.0
    tis_cap: float | None = None
    correction: Correction | None = None
    terms: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        _require_number("clip_low", self.clip_low, low=0.0, high=1.0)
        _require_number("clip_high", self.clip_high, low=0.0)
        _require_choice("ratio_level", self.ratio_level, RatioLevel)
        _require_choice("objective", self.objective, Objective)
        _require_choice("aggregation", self.aggregation, Aggregation)
        _require_choice("kl_estimator", self.kl_estimator, KLEstimator)
        _require_number("kl_coefficient", self.kl_coefficient, low=0.0)
        _require_number("entropy_coefficient", self.entropy_coefficient)
        if self.tis_cap is not None:
            _require_number("tis_cap", self.tis_cap, above=0.0)
            if self.correction is not None:
                raise ValueError(f"tis_cap is {self.tis_cap} together with a correction; only one of them is allowed")
        if self.dual_clip is not None:
            _require_number("dual_clip", self.dual_clip, above=1.0)
            if self.dual_clip < 1.0 + self.clip_high:
                raise ValueError(
                    f"dual_clip is {self.dual_clip}, below 1 + clip_high = {1.0 + self.clip_high}; raise dual_clip"
                )
            if self.objective == "cispo":
                raise ValueError("dual_clip has no effect with objective 'cispo'; leave it out (null)")

    @property
    def engine_correction(self) -> Correction | None:
        """The importance weights against the engine, however they were asked for."""
        return self.correction if self.tis_cap is None else Correction("token", "truncate", self.tis_cap)

    @property
    def needs_reference(self) -> bool:
        """Whether the loss asks for the log-probs of a frozen reference policy."""
        return self.kl_coefficient != 0.0

    @property
    def trains_on_zero_advantage(self) -> bool:
        """Whether a response whose advantage is zero still has a gradient (a KL, an entropy or an own term)."""
        return self.kl_coefficient != 0.0 or self.entropy_coefficient != 0.0 or bool(self.terms)


def _require_choice(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(repr, get_args(choices)))}")


def _require_number(
    name: str, value: float, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> None:
    bounds = [
        text
        for bound, text in ((low, f"at least {low}"), (high, f"at most {high}"), (above, f"above {above}"))
        if bound is not None
    ]
    inside = (
        math.isfinite(value)
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
    )
    if not inside:
        raise ValueError(f"{name} is {value}; allowed is a finite number {' and '.join(bounds)}".rstrip())
