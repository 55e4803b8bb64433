"""A mixture of experts trained with LoRA by several processes: ``python lora_expert_ranks.py FOLDER``.

With RANK, WORLD_SIZE and MASTER_PORT set. The first process writes the weights after an update under each sharding to
``FOLDER/outcomes.pt``, and the adapters as checkpoints hold them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from saved_folders import save_adapters
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from update_cases import deepspeed_accelerator

from masa.config.algorithm import OptimizerSection
from masa.config.schema import LoraSection
from masa.distributed.processes import leave_processes, make_accelerator
from masa.model.lora import add_adapters, describe_adapters
from masa.model.weights import policy_weights
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

ATTENTION = ["q_proj", "o_proj"]


def updated(accelerator: Accelerator, folder: Path | None = None, targets: list[str] | None = None) -> dict[str, Any]:
    """The gradient's norm and the merged weights after one update; the adapters are saved to ``folder``."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
    )
    model: Any = Qwen3MoeForCausalLM(config).float().train()
    add_adapters(model, LoraSection(rank=4, targets=targets or []))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    line = describe_adapters(model)
    section = OptimizerSection(learning_rate=0.01, warmup_steps=0)
    module = PolicyModule(model, temperature=1.0)
    updater = PolicyUpdater(
        accelerator,
        module,
        make_optimizer(module, section),
        section,
        preset("dapo").loss,
        constant_length=8,
        total_updates=2,
    )
    rows = [
        TrainingRow((5, 6, 7 + number), (9, 8, 2 + number), (-4.0,) * 3, 1.0 - 2 * (number % 2)) for number in range(6)
    ]
    metrics = updater.update([rows])
    if folder is not None:
        if accelerator.is_main_process:
            folder.mkdir(parents=True)
        save_adapters(model, folder if accelerator.is_main_process else None)
    weights = {name: tensor.clone() for name, tensor in policy_weights(model)}
    return {"norm": metrics["policy/gradient_norm"], "weights": weights, "line": line}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = make_accelerator()
    outcomes = {"ddp": updated(accelerator)}
    for stage in (1, 2):
        outcomes[f"zero{stage}"] = updated(deepspeed_accelerator(stage))
    accelerator = deepspeed_accelerator(3)
    outcomes["zero3 attention"] = updated(accelerator, folder / "zero3", ATTENTION)
    outcomes["zero3"] = updated(accelerator)
    if accelerator.is_main_process:
        torch.save(outcomes, folder / "outcomes.pt")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_processes()
