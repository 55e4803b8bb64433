"""Whole runs of `MASATrainer` on models handed in, one after another, in the processes of a launcher.

Run under ``accelerate launch`` with a folder: each case leaves its run directory there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from masa import MASATrainer, Problem, load_config
from masa.embedded import DATA_DIRECTORY

COMMON = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=2",
    "problems.limit=32",
    "problems.eval=null",
    "rollout.max_solution_tokens=32",
    "rollout.max_meta_tokens=16",
    "rewards.verifier_workers=1",
    "optimizer.warmup_steps=0",
    "optimizer.learning_rate=1e-3",
    "optimizer.weight_decay=0.1",
    "algorithm.kl_coefficient=0.05",
    "checkpoint.every=1",
    "tracking.figures=false",
    "run.threads=1",
)
_EXPERTS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
# Options of each case, and the steps after which its processes make the run anew to go on with it.
CASES: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "dense": ((), (3,)),
    "resumed": ((), (2, 3)),
    "experts": ((), (1, 2)),
    "adapters": (("model.lora.rank=4",), (1, 2)),
    "value_head": (("controls.selection.method=value_head",), (1, 3)),
}


def make_model(case: str) -> Any:
    if case != "experts":
        return AutoModelForCausalLM.from_pretrained(DATA_DIRECTORY, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(DATA_DIRECTORY)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, initializer_range=0.2, **_EXPERTS
    )
    return AutoModelForCausalLM.from_config(config)


def share_of_digits(problem: Problem, response: str) -> float:
    """A reward that differs between the responses of any policy."""
    return sum(one.isdigit() for one in response) / max(1, len(response))


def main(folder: Path, cases: list[str]) -> None:
    for case in cases:
        options, stops = CASES[case]
        for part, steps in enumerate(stops):
            changes = [*COMMON, *options, f"run.dir={folder / case}", f"run.steps={steps}"]
            MASATrainer(
                load_config("configs/quickstart.yaml", changes),
                model=make_model(case),
                tokenizer=AutoTokenizer.from_pretrained(DATA_DIRECTORY),
                reward_functions=[share_of_digits],
            ).train(resume=part > 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(CASES))
