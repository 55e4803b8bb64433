"""TRL's GRPOTrainer around a policy of one's own, for the scripts that compare with it.

They run where both TRL 1.16 and masa can be imported; docs/performance.md says how to make such an environment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM


def qwen3(*, hidden: int, layers: int, vocabulary: int, seed: int = 0, **changes: Any) -> Any:
    """A Qwen3-shaped policy with random weights, float32, tied head."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": max(2, hidden // 64),
        "num_key_value_heads": max(1, hidden // 128),
        "head_dim": min(64, hidden // 2),
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    }
    return Qwen3ForCausalLM(Qwen3Config(**{**shape, **changes}))


def trl_trainer(model: Any, *, reward: Any = None, prompts: Sequence[str] = ("1 + 1",) * 8, **arguments: Any) -> Any:
    """A GRPOTrainer on the CPU, float32; without a ``reward`` it is made ready for `_compute_loss` alone."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from masa.embedded import load_embedded_tokenizer

    settings: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 64,
        "temperature": 1.0,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_steps": 1000,
        "save_strategy": "no",
    }
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward or (lambda completions, **_: [0.0] * len(completions)),
        args=GRPOConfig(**{**settings, **arguments}),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=load_embedded_tokenizer(),
    )
    if reward is None:
        trainer.current_gradient_accumulation_steps = 1
        trainer.args.steps_per_generation = 1
        trainer.model.train()
    return trainer


def trl_inputs(prompts: list[list[int]], completions: list[list[int]], advantages: torch.Tensor) -> dict[str, Any]:
    """Rows as TRL pads them: prompts on the left, completions on the right."""
    longest_prompt, longest = max(map(len, prompts)), max(map(len, completions))
    prompt_ids = torch.zeros(len(prompts), longest_prompt, dtype=torch.long)
    prompt_mask = torch.zeros_like(prompt_ids)
    completion_ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    completion_mask = torch.zeros_like(completion_ids)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        prompt_ids[row, longest_prompt - len(prompt) :] = torch.tensor(prompt)
        prompt_mask[row, longest_prompt - len(prompt) :] = 1
        completion_ids[row, : len(completion)] = torch.tensor(completion)
        completion_mask[row, : len(completion)] = 1
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": advantages,
        "num_items_in_batch": completion_mask.sum(),
    }
