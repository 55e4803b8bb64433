"""Supervised training on the warm-start texts: the loss is on the response and the end token alone."""

from __future__ import annotations

import math
import platform
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from masa.embedded.corpus import Example

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_LOSSES_AVERAGED = 100


@dataclass(frozen=True)
class WarmStart:
    """The supervised run: examples seen once each, in batches of equal size; learning rate cosine to a tenth.

    ``shuffled``: in an order that the seed decides, else as they were given (a curriculum) but for a window's batches.
    """

    examples: int = 30_000
    batch_size: int = 16
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    shuffled: bool = True


def encode(example: Example, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """Token ids of prompt and response with the end token, and how many of them are the prompt's.

    The prompt's ids are those that a rollout engine is given: chat template and generation prompt included.
    """
    message = [{"role": "user", "content": example.prompt}]
    prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    response = tokenizer.encode(example.response, add_special_tokens=False)
    return [*prompt, *response, tokenizer.eos_token_id], len(prompt)


def train(
    policy: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    settings: WarmStart,
    seed: int,
    report: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """Train ``policy`` in place; the losses (nats per response token) of every step come back.

    Batches hold examples of similar length, in an order that ``seed`` decides. ``report(step, steps, loss)`` is
    called after each step.
    """
    import torch

    encoded = [encode(example, tokenizer) for example in examples]
    batches = in_batches(encoded, settings.batch_size, seed, shuffled=settings.shuffled)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    policy.train()
    losses = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, len(batches), settings.warm_up_steps)
        ids, labels = _collate(batch, tokenizer.pad_token_id)
        logits = policy(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.clip)
        optimizer.step()
        losses.append(loss.item())
        if report is not None:
            report(step + 1, len(batches), losses[-1])
    policy.eval()
    return losses


def in_batches(
    encoded: list[tuple[list[int], int]], size: int, seed: int, *, shuffled: bool
) -> list[list[tuple[list[int], int]]]:
    """Whole batches of similar length: sorted within windows of 16 batches, then the window's batches are shuffled.

    ``encoded`` holds token ids and the number of those that are the prompt's; not ``shuffled``, windows keep its order.
    """
    rng = random.Random(f"embedded/batches/{seed}")
    order = list(encoded)
    if shuffled:
        rng.shuffle(order)
    window = 16 * size
    batches = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda item: len(item[0]))
        chunk = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(chunk)
        batches.extend(chunk)
    return batches


def _schedule(step: int, steps: int, warm_up: int) -> float:
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def _collate(batch: list[tuple[list[int], int]], pad: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids and labels ``[batch, time]``; -100 marks positions without a loss (prompt and padding).

    Causal attention keeps right padding out of every real position, so no mask is needed.
    """
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), width), -100)
    for row, (tokens, prompt_length) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt_length : len(tokens)] = torch.tensor(tokens[prompt_length:])
    return ids, labels


def print_loss(step: int, steps: int, loss: float) -> None:
    """A report of `train`: every hundredth step and the last one, on the terminal."""
    if step % 100 == 0 or step == steps:
        print(f"warm start: step {step}/{steps}, loss {loss:.3f} nats per token", flush=True)


def package_versions() -> dict[str, str]:
    """The versions that decide what a warm start gives."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def describe_build(
    command: str,
    seed: int,
    policy: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    losses: Sequence[float],
    examples: int,
    seconds: float,
) -> dict[str, Any]:
    """What a built policy's JSON file says of how it was made."""
    last = losses[-_LOSSES_AVERAGED:]
    return {
        "seed": seed,
        "command": f"{command} --seed {seed}",
        "versions": package_versions(),
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "vocabulary": len(tokenizer),
        "warm_start_examples": examples,
        "warm_start_loss": round(sum(last) / len(last), 4),
        "warm_start_seconds": round(seconds),
    }
