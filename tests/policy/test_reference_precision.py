"""The reference is computed as the policy is: before the policy has moved, the KL between them is exactly zero."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from masa.config.algorithm import OptimizerSection
from masa.policy.update.optimizer import make_optimizer
from masa.policy.objective.parameters import LossParameters
from masa.policy.forward.policy_module import PolicyModule
from masa.distributed.processes import make_accelerator
from masa.policy.update.updater import PolicyUpdater, TrainingRow
import copy
torch.set_num_threads(1)
accelerator = make_accelerator()
torch.manual_seed(0)
shape = dict(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
model = Qwen3ForCausalLM(Qwen3Config(**shape, num_key_value_heads=2, head_dim=16, pad_token_id=0)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.normal_(0, 0.2) if parameter.dim() > 1 else None
section = OptimizerSection(share_prompts="off")
module = PolicyModule(model, temperature=1.0)
updater = PolicyUpdater(
    accelerator, module, make_optimizer(module, section), section, LossParameters(kl_coefficient=0.1),
    constant_length=32, total_updates=4, reference=copy.deepcopy(module).requires_grad_(False),
)
generator = torch.Generator().manual_seed(1)
rows = []
for _ in range(6):
    response = tuple(torch.randint(3, 128, (30,), generator=generator).tolist())
    rows.append(TrainingRow((5, 6, 7), response, (-5.0,) * 30, 0.0))
first, second = updater.update([rows]), updater.update([rows])
print(accelerator.mixed_precision, first["policy/reference_kl"], first["policy/gradient_norm"])
"""


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_unmoved_policy_is_no_distance_from_its_reference(precision: str) -> None:
    environment = {**os.environ, "ACCELERATE_MIXED_PRECISION": precision}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [precision, "0.0", "0.0"]


def test_the_reference_takes_the_types_that_the_policy_was_given() -> None:
    import torch
    from torch import nn

    from masa.policy.update.updater import _take_types

    policy = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    reference = copy.deepcopy(policy)
    # As DeepSpeed does to a policy in bf16.
    policy.to(torch.bfloat16)
    _take_types(reference, policy)
    assert [one.dtype for one in reference.state_dict().values()] == [one.dtype for one in policy.state_dict().values()]
