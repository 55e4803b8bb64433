"""The algorithm of a run: a preset, with the parameters that the configuration changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from masa.config import ConfigError
from masa.config.algorithm import AlgorithmSection
from masa.policy.objective.own_parts import load_advantage, load_loss_terms
from masa.policy.objective.parameters import Correction
from masa.policy.objective.presets import Algorithm, preset

_LOSS_PARAMETERS = (
    "clip_low",
    "clip_high",
    "dual_clip",
    "kl_coefficient",
    "kl_estimator",
    "entropy_coefficient",
    "tis_cap",
    "aggregation",
)


def resolve_algorithm(section: AlgorithmSection) -> Algorithm:
    """The preset ``algorithm.name`` with every parameter that is not null in the configuration put in its place.

    Raises:
        ConfigError: a combination in which one option would be without effect, k1 as a term of the loss included; a
            part of the user's own that cannot be imported or does not work.
    """
    algorithm = preset(section.name)
    changed: dict[str, Any] = {
        name: value for name in _LOSS_PARAMETERS if (value := getattr(section, name)) is not None
    }
    asked = section.correction
    if asked.mode != "none":
        assert asked.upper is not None
        changed["correction"] = Correction(asked.level, asked.mode, asked.upper, asked.lower)
    if section.own.loss_terms:
        changed["terms"] = load_loss_terms(section.own.loss_terms)
    try:
        loss = replace(algorithm.loss, **changed)
    except ValueError as error:
        raise ConfigError(f"algorithm: {error}") from None
    if loss.kl_estimator == "k1" and loss.kl_coefficient:
        raise ConfigError(
            f"algorithm.kl_estimator: found 'k1', allowed with kl_coefficient {loss.kl_coefficient:g}: 'k2', 'k3'; the "
            "gradient of k1 = log pi - log pi_ref is that of log pi, whose expectation is zero: it would add noise and "
            "hold nothing near the reference"
        )
    if section.own.advantage is not None:
        return Algorithm(replace(algorithm.advantage, own=load_advantage(section.own.advantage)), loss)
    if section.advantage_scale is None:
        return Algorithm(algorithm.advantage, loss)
    return Algorithm(replace(algorithm.advantage, scale=section.advantage_scale), loss)


def require_corrected_type(rollouts: str, policy: str, algorithm: Algorithm) -> None:
    """Rollouts in another type than the policy's (``rollout.dtype``) need their importance weights.

    Raises:
        ConfigError: they are of another type, and the loss does not correct for it.
    """
    if rollouts not in ("policy", policy) and algorithm.loss.engine_correction is None:
        raise ConfigError(
            f"rollout.dtype: found {rollouts!r} with a policy in {policy}, allowed without importance weights: "
            "'policy'; set algorithm.tis_cap, for example to 2, or algorithm.correction"
        )
