"""Log-probs and entropy of given tokens without ever holding the [tokens, vocabulary] matrix.

The matrix is worked through in blocks of tokens by vocabulary. Forward keeps a running maximum and sum per token (an
online softmax) and saves one number per token; backward makes each block again and adds its part to the gradients.
Where the whole matrix fits a budget it is kept instead, which saves backward one of its three matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from masa.model.cpu_products import add_product, product
from masa.policy.forward.head import PLAIN, LogitTransform

# The largest [tokens, vocabulary] tensor by device type, where the caller sets no budget, and of one block of it: on a
# CPU a block should stay near its cache, a GPU wants large products.
_MEMORY_BUDGET = {"cpu": 64 * 2**20, "cuda": 2**30}
_BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
_SMALLEST_VOCABULARY_BLOCK = 512


def chunked_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    transform: LogitTransform = PLAIN,
    with_entropy: bool = True,
    entropy_gradient: bool = False,
    memory_budget: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-prob of each target under softmax(logits / temperature), and the entropy of that softmax.

    The logits are ``transform(hidden @ weight.T + bias)``: with neither, the product itself.

    The softmax is computed in float32 whatever the inputs are (float64 for float64); its gradients are exact. Only
    what is passed costs anything, so the caller gathers the positions that count first. No token at all is allowed
    and still connects the gradient graph.

    Args:
        hidden: [N, H], the state that predicts each target.
        weight: [V, H], the output head, possibly tied to the embedding. A frozen head costs no gradient product.
        targets: [N], integers in [0, V).
        temperature: the one the tokens were sampled at, above 0.
        bias: [V], of the output head.
        transform: what makes logits of the head's output: a scale, and a soft cap.
        with_entropy: also give the entropy.
        entropy_gradient: let gradients flow through the entropy, as an entropy bonus needs.
        memory_budget: bytes of the largest [tokens, vocabulary] tensor, of which up to four are alive at once. A whole
            matrix that fits is kept for backward. By default 64 MiB on a CPU, 1 GiB on a GPU.

    Returns:
        ``(logprobs, entropy)``, each [N], float32, in nats; the entropy is ``None`` without ``with_entropy``.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not positive, a gradient of no entropy.
    """
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden is {tuple(hidden.shape)}, weight {tuple(weight.shape)}; [N, H] and [V, H] needed")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets are {tuple(targets.shape)} for {hidden.shape[0]} hidden states; [N] needed")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    if entropy_gradient and not with_entropy:
        raise ValueError("entropy_gradient without with_entropy: there is no entropy to differentiate")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)} for {weight.shape[0]} words; [V] needed")
    scores = _Scores(transform.scale, transform.softcap, temperature)
    if memory_budget is None:
        memory_budget = _MEMORY_BUDGET.get(hidden.device.type, _MEMORY_BUDGET["cuda"])
    # Autocast would round the scores to half precision before the softmax.
    with torch.autocast(hidden.device.type, enabled=False):
        logprobs, entropy = _ChunkedLogprobs.apply(  # type: ignore[no-untyped-call]
            hidden, weight, bias, targets, scores, with_entropy, entropy_gradient, memory_budget
        )
    return logprobs, entropy if with_entropy else None


@dataclass(frozen=True)
class _Scores:
    """What the softmax is taken of: logits over the temperature."""

    scale: float
    softcap: float | None
    temperature: float

    def of(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """[tokens, words] of one block."""
        product = _product_dtype(hidden)
        raw = _product(hidden.to(product), weight.to(product).t(), dtype)
        return self.finish(raw if bias is None else raw.add_(bias.to(dtype)))

    def finish(self, raw: Tensor) -> Tensor:
        """Scores of the head's output, in place."""
        if self.softcap is None:
            factor = self.scale / self.temperature
            return raw if factor == 1.0 else raw.mul_(factor)
        return raw.mul_(self.scale / self.softcap).tanh_().mul_(self.softcap / self.temperature)

    def pull_back(self, gradient: Tensor, scores: Tensor | None) -> Tensor:
        """The gradient with respect to the head's output, in place; a soft cap uses up the ``scores``."""
        if self.softcap is not None and scores is not None:
            # d/dz of c tanh(z / c) is 1 - tanh(z / c)^2
            squared = scores.mul_(self.temperature / self.softcap).square_()
            gradient.mul_(squared.neg_().add_(1.0))
        return gradient.mul_(self.scale / self.temperature)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        make: _Scores,
        with_entropy: bool,
        entropy_gradient: bool,
        memory_budget: int,
    ) -> tuple[Tensor, Tensor]:
        dtype = _softmax_dtype(hidden)
        whole = keeps_matrix(hidden.shape[0], weight.shape[0], dtype.itemsize, hidden.device.type, memory_budget)
        keep = whole and any(ctx.needs_input_grad)
        matrix = hidden.new_empty(0)
        if whole:
            scores = make.of(hidden, weight, bias, dtype)
            matrix = torch.log_softmax(scores, dim=1)
            logprobs = matrix.gather(1, targets[:, None])[:, 0]
            entropy = -torch.linalg.vecdot(matrix.exp(), matrix) if with_entropy else torch.zeros_like(logprobs)
            # The derivative of a soft cap needs the scores themselves.
            normalizer = torch.zeros_like(logprobs) if make.softcap is None else torch.logsumexp(scores, dim=1)
        else:
            normalizer, entropy = _online_softmax(hidden, weight, bias, make, dtype, with_entropy, memory_budget)
            target_raw = torch.linalg.vecdot(hidden.to(dtype), weight[targets].to(dtype))
            if bias is not None:
                target_raw = target_raw + bias[targets].to(dtype)
            logprobs = (make.finish(target_raw) - normalizer).clamp_(max=0.0)
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        kept = matrix if keep else hidden.new_empty(0)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer, entropy, kept)
        ctx.kept, ctx.make, ctx.entropy_gradient, ctx.memory_budget = keep, make, entropy_gradient, memory_budget
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normalizer, entropy, matrix = ctx.saved_tensors
        dtype, make = _softmax_dtype(hidden), ctx.make
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device) if need_hidden else None
        grad_weight = torch.empty_like(weight) if need_weight else None
        grad_bias = torch.zeros(weight.shape[:1], dtype=dtype, device=weight.device) if need_bias else None
        entropy_pull = grad_entropy if ctx.entropy_gradient else None
        tokens_per_block, words_per_block = block_shape(
            hidden.shape[0], weight.shape[0], dtype.itemsize, hidden.device.type, ctx.memory_budget
        )
        if ctx.kept:
            tokens_per_block, words_per_block = max(hidden.shape[0], 1), weight.shape[0]

        with torch.autocast(hidden.device.type, enabled=False):
            for words in _slices(weight.shape[0], words_per_block):
                block_weight = weight[words].to(_product_dtype(hidden))
                block_bias = None if bias is None else bias[words]
                part = torch.zeros(block_weight.shape, dtype=dtype, device=weight.device) if need_weight else None
                for tokens in _slices(hidden.shape[0], tokens_per_block):
                    block_hidden = hidden[tokens].to(_product_dtype(hidden))
                    scores = None
                    if ctx.kept:
                        log_softmax = matrix
                        if make.softcap is not None:
                            scores = matrix + normalizer[:, None]
                    elif make.softcap is None:
                        log_softmax = make.of(block_hidden, block_weight, block_bias, dtype)
                        log_softmax.sub_(normalizer[tokens, None])
                    else:
                        scores = make.of(block_hidden, block_weight, block_bias, dtype)
                        log_softmax = scores - normalizer[tokens, None]
                    grad_scores = _score_gradient(
                        log_softmax,
                        targets[tokens] - words.start,
                        grad_logprobs[tokens],
                        None if entropy_pull is None else entropy_pull[tokens],
                        entropy[tokens],
                    )
                    grad_raw = make.pull_back(grad_scores, scores)
                    if grad_hidden is not None:
                        _add_product(grad_hidden[tokens], grad_raw, block_weight)
                    if part is not None:
                        _add_product(part, grad_raw.t(), block_hidden)
                    if grad_bias is not None:
                        grad_bias[words] += grad_raw.sum(0)
                if grad_weight is not None and part is not None:
                    grad_weight[words] = part
        return (
            None if grad_hidden is None else grad_hidden.to(hidden.dtype),
            grad_weight,
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *([None] * 5),
        )


def _online_softmax(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    make: _Scores,
    dtype: torch.dtype,
    with_entropy: bool,
    memory_budget: int,
) -> tuple[Tensor, Tensor]:
    """Per token the log of the softmax denominator and the entropy (meaningless without ``with_entropy``)."""
    count = hidden.shape[0]
    top = torch.full((count,), -torch.inf, dtype=dtype, device=hidden.device)
    total, weighted = torch.zeros_like(top), torch.zeros_like(top)
    tokens_per_block, words_per_block = block_shape(
        count, weight.shape[0], dtype.itemsize, hidden.device.type, memory_budget
    )
    for words in _slices(weight.shape[0], words_per_block):
        block_weight = weight[words].to(_product_dtype(hidden))
        block_bias = None if bias is None else bias[words]
        for tokens in _slices(count, tokens_per_block):
            scores = make.of(hidden[tokens].to(_product_dtype(hidden)), block_weight, block_bias, dtype)
            new_top = torch.maximum(top[tokens], scores.amax(1))
            rescale = (top[tokens] - new_top).exp()
            # Sums are kept relative to the maximum, so that scores of any size neither overflow nor cancel.
            shifted = scores.sub_(new_top[:, None])
            if with_entropy:
                powers = shifted.exp()
                moved = torch.where(total[tokens] > 0, (top[tokens] - new_top) * total[tokens], 0.0)
                weighted[tokens] = (weighted[tokens] + moved) * rescale + torch.linalg.vecdot(powers, shifted)
            else:
                powers = shifted.exp_()
            total[tokens] = total[tokens] * rescale + powers.sum(1)
            top[tokens] = new_top
    return top + total.log(), total.log() - weighted / total


def _score_gradient(
    log_softmax: Tensor, columns: Tensor, grad_logprobs: Tensor, grad_entropy: Tensor | None, entropy: Tensor
) -> Tensor:
    """Gradient with respect to one block of scores [tokens, words]; ``columns`` outside the block have no target."""
    words = log_softmax.shape[1]
    pull = grad_logprobs[:, None]
    if grad_entropy is not None:
        # dH/dz = -p (log p + H)
        pull = pull + grad_entropy[:, None] * (log_softmax + entropy[:, None])
    gradient = log_softmax.exp().mul_(-pull)
    inside = (columns >= 0) & (columns < words)
    index = columns.clamp(0, words - 1)[:, None]
    # One column a row, so reading, adding and writing back is deterministic on every device.
    at_target = gradient.gather(1, index) + torch.where(inside, grad_logprobs, 0.0)[:, None]
    return gradient.scatter_(1, index, at_target)


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    if left.dtype == dtype:
        return product(left, right)
    return torch.mm(left, right, out_dtype=dtype)


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    if right.dtype == target.dtype:
        add_product(target, left, right)
    else:
        target.add_(_product(left.to(right.dtype), right, target.dtype))


def _softmax_dtype(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _product_dtype(hidden: Tensor) -> torch.dtype:
    # A GPU multiplies half-precision matrices into float32; elsewhere the product itself would be rounded.
    return hidden.dtype if hidden.device.type == "cuda" else _softmax_dtype(hidden)


def keeps_matrix(count: int, vocabulary: int, itemsize: int, device: str, memory_budget: int | None = None) -> bool:
    """Whether the whole [count, vocabulary] matrix of so wide elements fits the budget."""
    return count * vocabulary * itemsize <= _budget(device, memory_budget)


def block_shape(
    count: int, vocabulary: int, itemsize: int, device: str, memory_budget: int | None = None
) -> tuple[int, int]:
    """Tokens and words of one block: all tokens by as many words as fit, as each weight row is then read once."""
    count = max(count, 1)
    block_bytes = min(_BLOCK_BYTES.get(device, _BLOCK_BYTES["cuda"]), _budget(device, memory_budget))
    elements = max(block_bytes // itemsize, 1)
    words = min(vocabulary, max(elements // count, min(_SMALLEST_VOCABULARY_BLOCK, elements)))
    return min(count, max(elements // words, 1)), words


def _budget(device: str, memory_budget: int | None) -> int:
    return _MEMORY_BUDGET.get(device, _MEMORY_BUDGET["cuda"]) if memory_budget is None else memory_budget


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
