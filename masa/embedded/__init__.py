"""A tiny Qwen3-architecture policy and its arithmetic world: trains anywhere, downloads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from masa.embedded.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.embedded.world import arithmetic_problems

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DATA_DIRECTORY = Path(__file__).parent / "data"

__all__ = [
    "DATA_DIRECTORY",
    "META_TEMPLATE",
    "SOLUTION_TEMPLATE",
    "arithmetic_problems",
    "load_embedded_policy",
    "load_embedded_tokenizer",
]


def load_embedded_policy() -> PreTrainedModel:
    """The shipped warm-started policy, float32 on the CPU, in evaluation mode."""
    from transformers import AutoModelForCausalLM

    policy: PreTrainedModel = AutoModelForCausalLM.from_pretrained(DATA_DIRECTORY, local_files_only=True)
    return policy.eval()


def load_embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The shipped tokenizer, chat template included."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(DATA_DIRECTORY, local_files_only=True)
    return tokenizer
