"""The policy-gradient loss: one function, whose parameters make it GRPO, DAPO, Dr. GRPO, GSPO, CISPO or RLOO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from masa.policy.objective.measures import Measure
from masa.policy.objective.parameters import Aggregation, Correction, KLEstimator, LossParameters

# exp() of a log-ratio beyond this is no measurement of anything, and infinity times a zero gradient is NaN: a single
# such token would spoil the update. Up to a ratio of e^20 = 4.9e8 the formulas are exact.
LOG_RATIO_LIMIT = 20.0


@dataclass(frozen=True)
class LossOutput:
    """``loss`` is this micro-batch's share of the batch loss, a scalar; ``metrics`` merge over shares and ranks."""

    loss: Tensor
    metrics: Mapping[str, Measure]


def loss_normalizer(
    aggregation: Aggregation, lengths: Sequence[int] | Tensor, constant_length: int | None = None
) -> float:
    """What the summed loss of a whole batch is divided by; adds up over micro-batches and over ranks.

    ``lengths`` are the numbers of counted response tokens of *all* responses of the batch, those left out of the
    update because their advantage is zero included; a response that is masked altogether has length 0.

    - ``token``: the number of tokens (DAPO).
    - ``sequence``: the number of responses that have a counted token (GRPO, GSPO).
    - ``constant``: the number of responses, masked ones too, times ``constant_length``, the response limit (Dr. GRPO).

    Raises:
        ValueError: ``constant`` without a positive ``constant_length``, a negative length, an unknown aggregation.
    """
    counts = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if any(count < 0 for count in counts):
        raise ValueError(f"a response has {min(counts)} tokens; at least 0 needed")
    if aggregation == "token":
        return float(sum(counts))
    if aggregation == "sequence":
        return float(sum(count > 0 for count in counts))
    if aggregation == "constant":
        if constant_length is None or constant_length < 1:
            raise ValueError(
                f"aggregation 'constant' with constant_length {constant_length}; give the response limit in tokens"
            )
        return float(len(counts) * constant_length)
    raise ValueError(f"aggregation is {aggregation!r}; allowed are 'token', 'sequence', 'constant'")


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    params: LossParameters,
    normalizer: float | Tensor,
    ref_logprobs: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
    entropy: Tensor | None = None,
) -> LossOutput:
    """One micro-batch's share of the loss of a whole batch, and its metrics. ``docs/policy.md`` has the formulas.

    Shares add up: the sum over micro-batches and ranks is the loss of the batch, whatever the division. Where a
    wrapper averages gradients over ranks, the caller multiplies by the number of ranks. Gradients reach ``logprobs``
    and, with an entropy coefficient, ``entropy``; everything else is taken as data.

    Args:
        logprobs: [B, T] of the sampled tokens under the policy, in nats. What stands where ``mask`` is 0 is ignored.
        old_logprobs: [B, T] under the weights that made the rollouts; ``None`` where those are the present weights,
            as in the first update on a batch: every ratio is then 1.
        advantages: [B], or [B, T] for one per token.
        mask: [B, T], 1 for response tokens that count, else 0.
        normalizer: :func:`loss_normalizer` of the whole batch, all ranks included.
        ref_logprobs: [B, T] under the frozen reference; needed with a KL coefficient.
        rollout_logprobs: [B, T] that the rollout engine reported; needed with ``tis_cap`` or a ``correction``.
        entropy: [B, T] of the policy's next-token distribution, in nats; needed with an entropy coefficient.

    Raises:
        ValueError: an input that the parameters need is missing, shapes differ, or ``normalizer`` is not positive.
    """
    _check(logprobs, mask, normalizer, params, ref_logprobs, rollout_logprobs, entropy)
    keep = mask > 0
    length = keep.sum(1)
    new = _counted(logprobs, keep)
    old = new.detach() if old_logprobs is None else _counted(old_logprobs, keep).detach()
    advantage = (advantages if advantages.dim() == 2 else advantages[:, None]).detach().to(new.dtype).expand_as(new)
    advantage = advantage.masked_fill(~keep, 0.0)

    log_ratio = new - old
    if params.ratio_level == "sequence":
        log_ratio = (log_ratio.sum(1) / length.clamp(min=1))[:, None].expand_as(new)
    ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    per_token = -_objective(ratio, new, advantage, params)
    metrics = _ratio_metrics(ratio.detach(), log_ratio.detach(), advantage, keep, params)

    if rollout_logprobs is not None:
        engine = _counted(rollout_logprobs, keep).detach()
        metrics |= _engine_metrics(old, engine, keep)
        correction = params.engine_correction
        if correction is not None:
            weight, bounded = _engine_weights(old - engine, length, correction)
            per_token = per_token * weight
            metrics["tis_weight"] = _mean(weight, keep)
            metrics["tis_clip_fraction"] = _mean(bounded, keep)
    if ref_logprobs is not None:
        divergence = kl_estimate(new, _counted(ref_logprobs, keep).detach(), params.kl_estimator)
        metrics["reference_kl"] = _mean(divergence, keep)
        if params.kl_coefficient:
            per_token = per_token + params.kl_coefficient * divergence
    if entropy is not None:
        bonus = _counted(entropy, keep)
        metrics["entropy"] = _mean(bonus, keep)
        if params.entropy_coefficient:
            per_token = per_token - params.entropy_coefficient * bonus

    for term in params.terms:
        value = term(new, old, advantage, keep)
        metrics[f"term_{term.name}"] = _mean(value, keep)
        per_token = per_token + term.weight * value

    per_token = per_token.masked_fill(~keep, 0.0)
    if params.aggregation == "sequence":
        total = (per_token.sum(1) / length.clamp(min=1)).sum()
    else:
        total = per_token.sum()
    return LossOutput(total / normalizer, metrics)


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator) -> Tensor:
    """Per-token estimate of KL(policy || reference) from tokens that the policy drew, same shape.

    With d = ref - policy log-prob: k1 = -d (unbiased, can be negative), k2 = d^2 / 2, k3 = e^d - 1 - d (unbiased,
    never negative). Source: Schulman, "Approximating KL divergence", 2020.
    """
    difference = ref_logprobs - logprobs
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return 0.5 * difference**2
    if estimator == "k3":
        return torch.expm1(difference.clamp(max=LOG_RATIO_LIMIT)) - difference
    raise ValueError(f"KL estimator is {estimator!r}; allowed are 'k1', 'k2', 'k3'")


def contributing_rows(
    advantages: Sequence[float] | Tensor, lengths: Sequence[int] | Tensor, params: LossParameters
) -> list[int]:
    """Indices of the responses that can have a gradient; leaving the others out changes no gradient.

    Left out are responses without a counted token and, where the loss has no KL, entropy or own term, those of
    zero advantage. The normaliser is still computed from the lengths of all.
    """
    pairs = enumerate(zip(_as_list(advantages), _as_list(lengths), strict=True))
    return [row for row, (one, length) in pairs if length > 0 and (one != 0 or params.trains_on_zero_advantage)]


def _as_list(values: Sequence[float] | Tensor) -> list[float]:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def _objective(ratio: Tensor, logprobs: Tensor, advantage: Tensor, params: LossParameters) -> Tensor:
    clipped = ratio.clamp(1.0 - params.clip_low, 1.0 + params.clip_high)
    if params.objective == "cispo":
        return clipped.detach() * advantage * logprobs
    objective = torch.minimum(ratio * advantage, clipped * advantage)
    if params.dual_clip is None:
        return objective
    return torch.where(advantage < 0, torch.maximum(objective, params.dual_clip * advantage), objective)


def _ratio_metrics(
    ratio: Tensor, log_ratio: Tensor, advantage: Tensor, keep: Tensor, params: LossParameters
) -> dict[str, Measure]:
    low, high = ratio < 1.0 - params.clip_low, ratio > 1.0 + params.clip_high
    if params.objective == "clip":
        # The minimum picks the clipped branch, which has no gradient, only on the side the advantage pushes to.
        low, high = low & (advantage < 0), high & (advantage > 0)
    metrics = {
        "clip_fraction_low": _mean(low, keep),
        "clip_fraction_high": _mean(high, keep),
        "ratio": _mean(ratio, keep),
        "approximate_kl": _mean(torch.expm1(log_ratio.clamp(max=LOG_RATIO_LIMIT)) - log_ratio, keep),
    }
    if params.dual_clip is not None:
        metrics["dual_clip_fraction"] = _mean((ratio > params.dual_clip) & (advantage < 0), keep)
    return metrics


def _engine_weights(log_ratio: Tensor, length: Tensor, correction: Correction) -> tuple[Tensor, Tensor]:
    """Importance weights [B, T] from policy minus engine log-probs, 0 where nothing counts; and where a bound acted."""
    if correction.level != "token":
        total = log_ratio.sum(1)
        one = total if correction.level == "sequence" else total / length.clamp(min=1)
        log_ratio = one[:, None].expand_as(log_ratio)
    weight = log_ratio.clamp(max=LOG_RATIO_LIMIT).exp()
    outside = weight > correction.upper
    if correction.mode == "truncate":
        return weight.clamp(max=correction.upper), outside
    assert correction.lower is not None
    outside = outside | (weight < correction.lower)
    return weight.masked_fill(outside, 0.0), outside


def _engine_metrics(old: Tensor, engine: Tensor, keep: Tensor) -> dict[str, Measure]:
    gap = (old - engine).abs()
    return {
        "engine_mismatch": _mean(gap, keep),
        "engine_mismatch_max": Measure(gap.max().double() if gap.numel() else gap.sum().double(), _count(keep), "max"),
        # Tokens were drawn from the engine, so this estimates KL(engine || policy).
        "engine_kl": _mean(kl_estimate(engine, old, "k3"), keep),
    }


def _counted(values: Tensor, keep: Tensor) -> Tensor:
    # masked_fill, not a product: padding may hold anything, and 0 * inf is NaN.
    return values.to(torch.promote_types(values.dtype, torch.float32)).masked_fill(~keep, 0.0)


def _mean(values: Tensor, keep: Tensor) -> Measure:
    return Measure(values.detach().masked_fill(~keep, 0).sum(dtype=torch.float64), _count(keep))


def _count(keep: Tensor) -> Tensor:
    return keep.sum(dtype=torch.float64)


def _check(
    logprobs: Tensor,
    mask: Tensor,
    normalizer: float | Tensor,
    params: LossParameters,
    ref_logprobs: Tensor | None,
    rollout_logprobs: Tensor | None,
    entropy: Tensor | None,
) -> None:
    if not isinstance(normalizer, Tensor) and not normalizer > 0:
        raise ValueError(f"normalizer is {normalizer}; a batch without a counted token has no loss to divide")
    correction = params.engine_correction
    needed = (
        ("ref_logprobs", ref_logprobs, params.needs_reference, f"kl_coefficient {params.kl_coefficient}"),
        ("rollout_logprobs", rollout_logprobs, correction is not None, f"the correction {correction}"),
        ("entropy", entropy, params.entropy_coefficient != 0.0, f"entropy_coefficient {params.entropy_coefficient}"),
    )
    for name, value, required, reason in needed:
        if required and value is None:
            raise ValueError(f"{name} is missing; {reason} needs it")
    for name, value in (("mask", mask), *((name, value) for name, value, _, _ in needed)):
        if value is not None and value.shape != logprobs.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, logprobs {tuple(logprobs.shape)}; both [B, T]")
