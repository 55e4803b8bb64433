"""Proof that an engine samples from the policy: one checksum of the weights, and log-probs of long prompts.

The checksum compares every bit of every weight, but sees only what the engine keeps as weights. Copies made from them
(a packed head) and results computed with them (cached prefixes) can be stale all the same: those show when prompts that
fill many cache blocks are answered and the policy computes the same log-probs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from masa.model.weights import policy_weights
from masa.rollout.engine import Rollout, RolloutEngine, RolloutRequest, Sampling
from masa.rollout.weights.adapters import scaled_adapters

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBE_LENGTHS = (12, 96, 320)
_PROBE_TOKENS = 16
# Largest difference of log-probs, in nats, between an engine and the policy when their weights are the same: 1.6 to 3
# times the largest that rounding was measured to make (tests/models/tolerances.py; docs/rollout.md has the figures).
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.5, torch.float16: 0.1}
# The size of the logits that this was measured at. Log-probs are differences of logits, each rounded in proportion to
# its size, so that beyond this the tolerance grows with them.
_LOGITS = {torch.float32: 20.0, torch.bfloat16: 40.0, torch.float16: 40.0}
_MULTIPLIERS = (-7046029254386353131, 4354685564936845319, -8663945395140668459)
_CHUNK = 2**22


def tolerance(dtypes: Iterable[torch.dtype], largest_logit: float = 0.0) -> float:
    """The largest difference of log-probs, in nats, that rounding explains in the roughest of ``dtypes``.

    ``largest_logit`` is the size of the logits that they depend on, over the temperature.
    """
    return max(TOLERANCES[one] * max(1.0, largest_logit / _LOGITS[one]) for one in dtypes)


def deciding_size(logits: Tensor, chosen: Tensor) -> float:
    """The largest absolute value of the logits that log-probs depend on: each position's ``chosen`` and its highest.

    Logits that a model masks are among neither. Of ``logits`` [L, V] and ``chosen`` [L]; 0 where one is not finite.
    """
    deciding = torch.cat([logits.gather(1, chosen.to(logits.device)[:, None])[:, 0], logits.amax(1)])
    return float(deciding.abs().max()) if bool(deciding.isfinite().all()) else 0.0


class DisagreementError(RuntimeError):
    """Engine and policy are not the same distribution."""


@dataclass(frozen=True)
class Agreement:
    """``weights_equal`` is None where the engine cannot say; ``difference`` is the largest distance of log-probs."""

    weights_equal: bool | None
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.weights_equal is not False and self.difference <= self.tolerance

    def metrics(self) -> dict[str, float]:
        return {"rollout/check_difference": self.difference}

    def require(self) -> None:
        """Raises:
        DisagreementError: it does not hold.
        """
        if not self.holds:
            weights = {None: "cannot be compared", True: "are equal", False: "differ"}[self.weights_equal]
            raise DisagreementError(
                f"the engine does not sample from the policy: their weights {weights}, and their log-probs are up to "
                f"{self.difference:.3g} nats apart; allowed are {self.tolerance:g}"
            )


def weight_checksum(tensors: Iterable[Tensor]) -> int:
    """A 64-bit sum over the bits of all elements, each with a factor of its own for every column.

    Engines fuse matrices along their rows (queries, keys and values into one) and pad them with zero rows; neither
    changes the sum.
    """
    total = 0
    for tensor in tensors:
        bits = _bits(tensor.detach())
        columns = bits.shape[-1]
        position = torch.arange(1, columns + 1, dtype=torch.int64, device=bits.device)
        factors = _mixed(position)
        rows = max(1, _CHUNK // columns)
        for start in range(0, bits.shape[0], rows):
            # int64 arithmetic wraps around: everything here is modulo 2**64.
            total += int((_mixed(bits[start : start + rows]) * factors).sum())
    return total % 2**64


def model_checksum(model: nn.Module) -> int:
    """`weight_checksum` of a module's parameters, tied ones once."""
    return weight_checksum(model.parameters())


def check_agreement(engine: RolloutEngine, policy: PreTrainedModel, *, stop_ids: Sequence[int]) -> Agreement:
    """Compare ``engine`` with ``policy``; where the policy is sharded over processes, all of them call it together.

    The probes are the same each time, so that a prefix cache which outlived an update answers them.
    """
    dtype = getattr(engine, "weight_dtype", policy.dtype)
    as_adapter = getattr(engine, "samples_with_adapter", False)
    expected = weight_checksum(tensor.to(dtype) for _, tensor in policy_weights(policy, merged=not as_adapter))
    if as_adapter:
        expected = (expected + weight_checksum(scaled_adapters(policy, dtype))) % 2**64
    found = engine.checksums()
    equal = set(found) == {expected} if found else None
    requests = _probes(policy.config.get_text_config().vocab_size, stop_ids)
    rollouts = [one for group in engine.generate(requests) for one in group]
    compared = [_distance(policy, rollout) for rollout in rollouts]
    allowed = tolerance((dtype, policy.dtype), max(largest for _, largest in compared))
    return Agreement(equal, max(difference for difference, _ in compared), allowed)


def _probes(vocabulary: int, stop_ids: Sequence[int]) -> list[RolloutRequest]:
    generator = torch.Generator().manual_seed(0)
    return [
        RolloutRequest(
            problem_id=f"probe of {length} tokens",
            path="solution",
            prompt_ids=tuple(torch.randint(0, vocabulary, (length,), generator=generator).tolist()),
            seeds=(length,),
            max_new_tokens=_PROBE_TOKENS,
            sampling=Sampling(),
        )
        for length in _PROBE_LENGTHS
    ]


@torch.no_grad()
def _distance(policy: Any, rollout: Rollout) -> tuple[float, float]:
    """The largest difference of log-probs, and the size of the policy's logits that they depend on."""
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.token_ids]], device=policy.device)
    logits = policy(input_ids=ids, use_cache=False).logits[0, len(rollout.prompt_ids) - 1 : -1].float()
    chosen = torch.tensor([*rollout.token_ids], device=policy.device)
    expected = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
    difference = (expected.cpu() - torch.tensor([*rollout.logprobs])).abs().max()
    return float(difference), deciding_size(logits, chosen)


def _bits(tensor: Tensor) -> Tensor:
    """The elements' bits as ``[rows, columns]`` integers; zero is zero, of either sign."""
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    tensor = torch.where(tensor == 0, torch.zeros_like(tensor), tensor)
    # Biases are fused along their only dimension, so that a position in them means nothing.
    columns = tensor.shape[-1] if tensor.dim() > 1 else 1
    return tensor.contiguous().view(kind).reshape(-1, columns)


def _mixed(values: Tensor) -> Tensor:
    """Spread integers over 64 bits; zero stays zero."""
    mixed = values.to(torch.int64)
    for factor in _MULTIPLIERS:
        mixed = mixed * factor
        mixed = mixed ^ (mixed >> 29)
    return mixed
