"""The formulas of docs/policy.md written out with Python loops over float64 scalars: slow, and meant to be read.

Every scalar is a float64 tensor without dimensions, so autograd gives the reference gradients as well.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from masa.policy.objective.parameters import Correction, LossParameters


def advantages(
    rewards: Sequence[float], group_ids: Sequence[Hashable], scale: str, leave_one_out: bool, eps: float
) -> list[float]:
    def sample_std(values: Sequence[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))

    result = []
    for i, reward in enumerate(rewards):
        members = [j for j in range(len(rewards)) if group_ids[j] == group_ids[i]]
        if len({rewards[j] for j in members}) == 1:
            result.append(0.0)
            continue
        baseline_members = [j for j in members if j != i] if leave_one_out else members
        baseline = sum(rewards[j] for j in baseline_members) / len(baseline_members)
        divisor = 1.0
        if scale == "std":
            divisor = sample_std([rewards[j] for j in members]) + eps
        if scale == "batch":
            divisor = sample_std(list(rewards)) + eps
        result.append((reward - baseline) / divisor)
    return result


def batch_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: LossParameters,
    constant_length: int,
    ref_logprobs: Tensor,
    rollout_logprobs: Tensor,
    entropy: Tensor,
) -> Tensor:
    """The loss of a whole batch; every tensor [B, T] float64, ``advantages`` [B]."""
    rows = []
    for i in range(logprobs.shape[0]):
        counted = [t for t in range(logprobs.shape[1]) if mask[i, t] > 0]
        terms = []
        for t in counted:
            ratio = _ratio(logprobs[i], old_logprobs[i], t, counted, params.ratio_level)
            term = _policy_term(ratio, logprobs[i, t], advantages[i], params)
            if params.tis_cap is not None:
                weight = torch.exp(old_logprobs[i, t] - rollout_logprobs[i, t]).detach()
                term = term * min(weight, torch.tensor(params.tis_cap, dtype=torch.float64))
            if params.correction is not None:
                term = term * _engine_weight(old_logprobs[i], rollout_logprobs[i], t, counted, params.correction)
            term = term + params.kl_coefficient * _kl(logprobs[i, t], ref_logprobs[i, t], params.kl_estimator)
            term = term - params.entropy_coefficient * entropy[i, t]
            terms.append(term)
        rows.append(terms)
    zero = torch.zeros((), dtype=torch.float64)
    if params.aggregation == "token":
        return sum((sum(terms, zero) for terms in rows), zero) / sum(len(terms) for terms in rows)
    if params.aggregation == "sequence":
        means = [sum(terms, zero) / len(terms) for terms in rows if terms]
        return sum(means, zero) / len(means)
    return sum((sum(terms, zero) for terms in rows), zero) / (len(rows) * constant_length)


def _ratio(new: Tensor, old: Tensor, t: int, counted: list[int], level: str) -> Tensor:
    if level == "token":
        return torch.exp(new[t] - old[t])
    product = torch.ones((), dtype=torch.float64)
    for u in counted:
        product = product * torch.exp(new[u] - old[u])
    return product ** (1 / len(counted))


def _engine_weight(old: Tensor, engine: Tensor, t: int, counted: list[int], correction: Correction) -> float:
    ratios = [math.exp(float(old[u] - engine[u])) for u in counted]
    weight = math.exp(float(old[t] - engine[t]))
    if correction.level != "token":
        weight = math.prod(ratios)
    if correction.level == "geometric":
        weight = weight ** (1 / len(ratios))
    if correction.mode == "truncate":
        return min(weight, correction.upper)
    assert correction.lower is not None
    return weight if correction.lower <= weight <= correction.upper else 0.0


def _policy_term(ratio: Tensor, logprob: Tensor, advantage: Tensor, params: LossParameters) -> Tensor:
    low, high = 1 - params.clip_low, 1 + params.clip_high
    clipped = low if ratio < low else high if ratio > high else ratio
    if params.objective == "cispo":
        weight = clipped.detach() if isinstance(clipped, Tensor) else clipped
        return -(weight * advantage * logprob)
    surrogate = min(ratio * advantage, clipped * advantage)
    if params.dual_clip is not None and advantage < 0:
        surrogate = max(surrogate, params.dual_clip * advantage)
    return -surrogate


def _kl(logprob: Tensor, ref: Tensor, estimator: str) -> Tensor:
    if estimator == "k1":
        return logprob - ref
    if estimator == "k2":
        return (logprob - ref) ** 2 / 2
    return torch.exp(ref - logprob) - (ref - logprob) - 1


def token_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of each distribution, one token at a time, float64."""
    logprobs, entropies = [], []
    for i in range(hidden.shape[0]):
        scores = [(hidden[i] * weight[v]).sum() / temperature for v in range(weight.shape[0])]
        highest = max(scores).detach()
        denominator = highest + torch.log(sum(torch.exp(score - highest) for score in scores))
        distribution = [score - denominator for score in scores]
        logprobs.append(distribution[int(targets[i])])
        entropies.append(-sum(torch.exp(one) * one for one in distribution))
    return torch.stack(logprobs), torch.stack(entropies)
