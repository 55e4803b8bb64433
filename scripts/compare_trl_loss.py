"""Loss and gradient of each preset that TRL 1.16 has as well, on the same tensors, in one process.

Prints the relative distance of the losses and of the gradients (all parameters together); exits with 1 above 1e-5.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from trl_common import qwen3, trl_inputs, trl_trainer

from masa.policy.batching.collate import TokenRow, collate
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.losses import loss_normalizer, policy_loss
from masa.policy.objective.presets import preset

VOCABULARY, LIMIT, BETA = 151, 40, 0.04
TRL: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "epsilon": 0.2},
    "dapo": {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "epsilon": 0.2},
    "gspo": {"loss_type": "grpo", "epsilon": 3e-4, "epsilon_high": 4e-4, "importance_sampling_level": "sequence"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)
    torch.set_num_threads(1)
    numbers = random.Random(0)
    model = qwen3(hidden=64, layers=2, vocabulary=VOCABULARY, initializer_range=0.1)
    prompts = [[numbers.randrange(VOCABULARY) for _ in range(numbers.randint(3, 9))] for _ in range(8)]
    completions = [[numbers.randrange(VOCABULARY) for _ in range(numbers.randint(1, LIMIT))] for _ in range(8)]
    advantages = torch.tensor([numbers.uniform(-2, 2) for _ in range(8)])
    inputs = trl_inputs(prompts, completions, advantages)
    rows = [TokenRow(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
    batch = collate(rows)
    module = PolicyModule(model, temperature=1.0)
    with torch.no_grad():
        now = module(batch, False)[0]
    # Far enough from the present policy that both clip bounds act.
    noise = torch.Generator().manual_seed(1)
    old = (now + 0.3 * torch.randn(now.shape, generator=noise)) * batch.response_mask
    reference = (now + 0.3 * torch.randn(now.shape, generator=noise)) * batch.response_mask
    lengths = [len(completion) for completion in completions]

    worst = 0.0
    for beta in (0.0, BETA):
        for name, arguments in TRL.items():
            trainer = trl_trainer(
                model, beta=0.0, max_completion_length=LIMIT, use_bias_correction_kl=False, **arguments
            )
            # Set afterwards: TRL would load a reference model, whose log-probs are given here.
            trainer.beta = beta
            extra = {"old_per_token_logps": old, "ref_per_token_logps": reference}
            theirs = _gradient(model, lambda t=trainer, e=extra: t._compute_loss(t.model, {**inputs, **e}))
            params = replace(preset(name).loss, kl_coefficient=beta)
            normalizer = loss_normalizer(params.aggregation, lengths, LIMIT)

            def ours(params: Any = params, normalizer: float = normalizer) -> torch.Tensor:
                logprobs, _ = module(batch, False)
                mask = batch.response_mask
                return policy_loss(
                    logprobs, old, advantages, mask, params=params, normalizer=normalizer, ref_logprobs=reference
                ).loss

            mine = _gradient(model, ours)
            loss = abs(mine[0] - theirs[0]) / abs(theirs[0])
            gradient = float((mine[1] - theirs[1]).norm() / theirs[1].norm())
            worst = max(worst, loss, gradient)
            print(f"{name:8} KL {beta:4}: loss {theirs[0]:+.6f}, distance {loss:.1e}; gradient distance {gradient:.1e}")
    print(f"largest distance {worst:.1e}, allowed 1e-05")
    return int(worst > 1e-5)


def _gradient(model: Any, loss_of: Any) -> tuple[float, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss = loss_of()
    loss.backward()
    return float(loss.detach()), torch.cat([one.grad.flatten() for one in model.parameters()])


if __name__ == "__main__":
    sys.exit(main())
