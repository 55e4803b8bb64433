"""Parts that train: log-probs without whole logits, the update in its layouts, Liger kernels."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

from acceptance.child import NotPossibleError
from acceptance.machine import peak_flops
from acceptance.memory import GIGABYTE, peak_of
from acceptance.shapes import device_of, micro_batch_tokens, random_qwen3, training_rows

_UPDATES = 3
# bfloat16 keeps 8 bits: a log-prob near -12 is a multiple of 1/16 where it is rounded on the way.
_BF16_NATS = 0.25
_FLOAT32_NATS = 1e-3
_VOCABULARY = 151_936


def chunked_logprobs_memory(size: str, folder: Path) -> dict[str, Any]:
    """Forward and backward of the log-probs, whole logits against `masa.policy.forward.logprobs`; both agree."""
    import torch

    from masa.policy.forward.logprobs import chunked_logprobs

    device = device_of(size)
    hidden_size, dtype = (1024, torch.bfloat16) if size == "gpu" else (32, torch.float32)
    tokens = 256
    if size == "gpu":
        # Whole logits take about five matrices of float32.
        tokens = min(8192, int(torch.cuda.mem_get_info()[0] * 0.8) // (5 * 4 * _VOCABULARY))
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(tokens, hidden_size, device=device, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(_VOCABULARY, hidden_size, device=device, generator=generator).mul_(0.02).to(dtype)
    head.requires_grad_()
    targets = torch.randint(0, _VOCABULARY, (tokens,), device=device, generator=generator)

    def whole() -> tuple[Any, Any]:
        found = (hidden @ head.t()).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
        return found.detach(), torch.autograd.grad(found.sum(), (hidden, head))

    def chunked() -> tuple[Any, Any]:
        found, _ = chunked_logprobs(hidden, head, targets)
        return found.detach(), torch.autograd.grad(found.sum(), (hidden, head))

    # What libraries take once, at their first call, belongs to neither.
    chunked_logprobs(hidden[:8], head, targets[:8])[0].sum().backward()
    (ours, our_gradients), our_peak = peak_of(chunked, device)
    (theirs, their_gradients), their_peak = peak_of(whole, device)
    difference = float((ours - theirs).abs().max())
    _require(difference <= (_BF16_NATS if dtype == torch.bfloat16 else _FLOAT32_NATS), f"{difference:.3g} nats apart")
    gradient = max(_relative(a, b) for a, b in zip(our_gradients, their_gradients, strict=True))
    _require(gradient <= (5e-2 if dtype == torch.bfloat16 else 1e-3), f"gradients {gradient:.3g} apart")
    _require(our_peak < their_peak, f"a peak of {our_peak / GIGABYTE:.2f} GB, whole logits {their_peak / GIGABYTE:.2f}")
    return {
        "tokens": tokens,
        "peak_gb": our_peak / GIGABYTE,
        "whole_logits_gb": their_peak / GIGABYTE,
        "share": our_peak / their_peak,
        "difference_nats": difference,
        "gradient_difference": gradient,
    }


def agreement(size: str, folder: Path) -> dict[str, Any]:
    """Padded and packed rows of the policy module against the model's own logits, in both types."""
    import torch

    figures = {}
    for dtype, tolerance in (("float32", _FLOAT32_NATS), ("bfloat16", _BF16_NATS)):
        model = random_qwen3(size, dtype=dtype)
        with torch.no_grad():
            found = _distances_from_logits(model, size)
        for layout, (largest, mean) in found.items():
            figures[f"{dtype}_{layout}"] = largest
            _require(largest <= tolerance, f"{layout} rows in {dtype} are {largest:.3g} nats from the model's logits")
            figures[f"{dtype}_{layout}_mean"] = mean
    return figures


def _distances_from_logits(model: Any, size: str) -> dict[str, tuple[float, float]]:
    """Largest and mean distance of log-probs, by layout."""
    import torch

    from masa.policy.batching.collate import collate, pack
    from masa.policy.forward.policy_module import PolicyModule

    rows = [row.tokens() for row in training_rows(size, model.config.vocab_size)[:4]]
    expected = []
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.token_ids]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 : -1].float()
        targets = torch.tensor(row.token_ids, device=model.device)
        expected.append(logits.log_softmax(-1).gather(1, targets[:, None])[:, 0])
    module, found = PolicyModule(model, temperature=1.0), {}
    for layout, layout_of in (("padded", collate), ("packed", pack)):
        logprobs, _ = module(layout_of(rows).to(model.device), False)
        apart = torch.cat([(one[: len(row)] - row).abs() for one, row in zip(logprobs, expected, strict=True)])
        found[layout] = (float(apart.max()), float(apart.mean()))
    return found


def padded(size: str, folder: Path) -> dict[str, Any]:
    """Updates on padded rows with sdpa attention."""
    return measured_updates(random_qwen3(size), size)


def checkpointed(size: str, folder: Path) -> dict[str, Any]:
    """The same with activations recomputed in the backward pass."""
    model = random_qwen3(size)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    # Checkpointing works in training mode alone; these models have no dropout.
    return measured_updates(model.train(), size)


def packed(size: str, folder: Path) -> dict[str, Any]:
    """Updates on packed rows with the kernel that is there."""
    attention = _packing_attention()
    model = random_qwen3(size, attention=attention)
    return {"attention": attention, **measured_updates(model, size, packed=True)}


def _packing_attention() -> str:
    """An attention that skips the work between packed rows.

    Raises:
        NotPossibleError: neither the package flash-attn nor flex attention is there.
    """
    from transformers.utils import import_utils

    if import_utils.is_flash_attn_2_available():
        return "flash_attention_2"
    if import_utils.is_torch_flex_attn_available():
        return "flex_attention"
    raise NotPossibleError("not installed: flash-attn, or a torch with flex attention")


def measured_updates(model: Any, size: str, *, packed: bool = False, accelerator: Any = None) -> dict[str, Any]:
    """Seconds, tokens, FLOPs and memory of whole updates, the first of which is not counted.

    Parameters and, without DeepSpeed, AdamW's moments are in the model's type. FLOPs are those of
    `masa.tracking.cost`: no padding, no recomputation.
    """
    import torch
    from accelerate import Accelerator

    from masa.config.algorithm import OptimizerSection
    from masa.policy.forward.policy_module import PolicyModule
    from masa.policy.objective.presets import preset
    from masa.policy.update.optimizer import make_optimizer
    from masa.policy.update.updater import PolicyUpdater
    from masa.tracking.cost import model_shape

    accelerator = accelerator or Accelerator(cpu=size == "cpu")
    section = OptimizerSection(
        learning_rate=1e-3, warmup_steps=0, micro_batch_tokens=micro_batch_tokens(size), share_prompts="off"
    )
    module = PolicyModule(model, temperature=1.0)
    rows, shape = training_rows(size, model.config.vocab_size), model_shape(model)
    lengths = [row.tokens().computed_length for row in rows]
    updater = PolicyUpdater(
        accelerator,
        module,
        make_optimizer(module, section),
        section,
        preset("dapo").loss,
        constant_length=max(lengths),
        total_updates=_UPDATES + 1,
        packed=packed,
    )
    before, metrics = _sample(model), [updater.update([rows])]
    seconds = []

    def updates() -> None:
        for _ in range(_UPDATES):
            started = time.perf_counter()
            metrics.append(updater.update([rows]))
            if size == "gpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)

    _, peak = peak_of(updates, device_of(size))
    for one in metrics:
        _require(math.isfinite(one["policy/loss"]) and not one["policy/skipped_updates"], f"not finite: {one}")
    _require(metrics[0]["policy/gradient_norm"] > 0, "the gradient is 0")
    _require(not torch.equal(before, _sample(model)), "no parameter has changed")
    figures = _speed(shape.update_flops(lengths), sum(lengths), statistics.median(seconds), size)
    return {
        **figures,
        "micro_batch_tokens": section.micro_batch_tokens,
        "padding_waste": metrics[-1]["policy/padding_waste"],
        "peak_gb_above_weights": peak / GIGABYTE,
    }


def _speed(flops: int, tokens: int, seconds: float, size: str) -> dict[str, Any]:
    """What one update of so many FLOPs and tokens came to, and its share of what the device can do."""
    import torch

    figures: dict[str, Any] = {
        "seconds_an_update": seconds,
        "tokens_a_second": tokens / seconds,
        "tflops": flops / seconds / 1e12,
    }
    if size == "gpu":
        possible = peak_flops(torch.cuda.get_device_name())
        figures["mfu"] = flops / seconds / possible if possible else "unknown"
    return figures


def liger(size: str, folder: Path) -> dict[str, Any]:
    """Log-probs with and without the kernels, and the seconds of a pass of each."""
    import torch

    from masa.policy.batching.collate import collate
    from masa.policy.forward.liger import take_out_liger_kernels, use_liger_kernels
    from masa.policy.forward.policy_module import PolicyModule

    model = random_qwen3(size)
    module = PolicyModule(model, temperature=1.0)
    rows = [row.tokens() for row in training_rows(size, model.config.vocab_size)[:4]]
    batch = collate(rows).to(model.device)

    def one_pass() -> tuple[Any, float]:
        taken = []
        for _ in range(4):
            torch.cuda.synchronize()
            started = time.perf_counter()
            logprobs, _ = module(batch, False)
            logprobs.sum().backward()
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - started)
        gradient = model.model.layers[0].mlp.up_proj.weight.grad.clone()
        model.zero_grad()
        return (logprobs.detach(), gradient), statistics.median(taken[1:])

    (plain, plain_gradient), plain_seconds = one_pass()
    use_liger_kernels(model, "on")
    (fused, fused_gradient), fused_seconds = one_pass()
    take_out_liger_kernels(model)
    difference, gradient = float((plain - fused).abs().max()), _relative(fused_gradient, plain_gradient)
    _require(difference <= 2 * _BF16_NATS, f"log-probs are {difference:.3g} nats apart")
    _require(gradient <= 0.1, f"gradients are {gradient:.3g} apart")
    chosen = use_liger_kernels(model, "auto")
    return {
        "seconds": fused_seconds,
        "without_seconds": plain_seconds,
        "ratio": fused_seconds / plain_seconds,
        "difference_nats": difference,
        "gradient_difference": gradient,
        "auto_takes_them": chosen,
    }


def _sample(model: Any) -> Any:
    """Some numbers of a matrix, whole also where DeepSpeed shards it."""
    from masa.model.weights import policy_weights

    wanted = "layers.0.mlp.up_proj.weight"
    # To the end: every process takes part in gathering every parameter.
    found = [tensor.detach().flatten()[:4096].clone() for name, tensor in policy_weights(model) if wanted in name]
    return found[0]


def _relative(found: Any, expected: Any) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
