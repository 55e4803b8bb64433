"""What a step cost: tokens, FLOPs by formula, problems. Recorded in every run, plain GRPO included.

With N the parameters that multiply (all but the input embedding, which is a table; the output head counts, also where
it shares the table's weights), L layers and A = heads * head dimension:

- A token that the model reads at position c (c tokens up to and with it) costs ``2 N + 4 L A c``: a multiplication
  and an addition for each parameter, and twice 2 A c in each layer for attention (queries with keys, weights with
  values). c positions 1..n together: ``2 N n + 2 L A n (n + 1)``.
- Generation reads a prompt once for all samples that share it, and of each sample all tokens but the last.
- An update reads prompt and response of each row it trains on, and the backward pass costs twice the forward pass:
  ``6 N`` for each token and three times the attention.

Not counted: recomputation under gradient checkpointing, forward passes for a KL reference or for old log-probs,
padding, and everything that is no matrix product. The formulas are those of dense decoders with full attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.rollout.engine import Rollout
from masa.tracking import keys
from masa.tracking.metrics import StepMetrics

if TYPE_CHECKING:
    from masa.controls.batch import ShapedBatch
    from masa.rewards.grading import GradedGroup


@dataclass(frozen=True)
class ModelShape:
    """What the FLOP formulas need of a model: N, and L * A."""

    parameters: int
    attention_width: int

    def forward_flops(self, start: int, end: int) -> int:
        """Reading the tokens at positions ``start + 1`` to ``end`` of one sequence, earlier ones cached."""
        positions = (end * (end + 1) - start * (start + 1)) // 2
        return 2 * self.parameters * (end - start) + 4 * self.attention_width * positions

    def generation_flops(self, rollouts: Iterable[Rollout]) -> int:
        """Sampling these rollouts, each distinct prompt of a problem read once."""
        prompts: set[tuple[str, Sequence[int]]] = set()
        flops = 0
        for rollout in rollouts:
            prompt = len(rollout.prompt_ids)
            if (rollout.problem_id, rollout.prompt_ids) not in prompts:
                prompts.add((rollout.problem_id, rollout.prompt_ids))
                flops += self.forward_flops(0, prompt)
            flops += self.forward_flops(prompt, prompt + len(rollout.token_ids) - 1)
        return flops

    def update_flops(self, lengths: Iterable[int]) -> int:
        """Forward and backward pass over rows of so many tokens."""
        return 3 * sum(self.forward_flops(0, length) for length in lengths)


def model_shape(model: Any) -> ModelShape:
    """The shape of a causal language model of `transformers`; to be taken before its parameters are sharded."""
    config = model.config.get_text_config()
    heads, head_width = attention_heads(config)
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    total = sum(_size(parameter) for parameter in model.parameters())
    return ModelShape(
        parameters=total if head is table else total - _size(table),
        attention_width=config.num_hidden_layers * heads * head_width,
    )


def attention_heads(config: Any) -> tuple[int, int]:
    """Number and width of the heads that a text configuration names; both 0 for a model without attention (Mamba)."""
    heads = int(getattr(config, "num_attention_heads", None) or 0)
    return heads, int(getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0


def record_step_cost(
    metrics: StepMetrics,
    shape: ModelShape,
    groups: Sequence[GradedGroup],
    batch: ShapedBatch,
    trained_lengths: Sequence[int],
) -> None:
    """Tokens, FLOPs and problems of one step, over all processes, and the seconds of its two rollout phases.

    Problems are drawn, and then either rolled out (given solutions) or gated; those rolled out although the open gate
    would have withheld their solutions are audited. What an oracle sampled is in no sum but its own.
    """
    solutions = [one for group in groups for one in group.solutions]
    metas = [meta for group in groups for meta in group.metas] + [meta for one in batch.gated for meta in one.metas]
    everything = [*solutions, *metas]
    prompts = {(one.problem_id, one.prompt_ids) for one in everything}
    generation, update = shape.generation_flops(everything), shape.update_flops(trained_lengths)
    reading = sum(shape.forward_flops(0, length) for length in batch.prompts_read)
    metrics.sum("cost/solution_tokens", sum(len(one.token_ids) for one in solutions))
    metrics.sum("cost/meta_tokens", sum(len(one.token_ids) for one in metas))
    metrics.sum(keys.TOKENS_GENERATED, sum(len(one.token_ids) for one in everything))
    metrics.sum("cost/prompt_tokens", sum(len(prompt_ids) for _, prompt_ids in prompts))
    metrics.sum(keys.TOKENS_TRAINED, sum(trained_lengths))
    metrics.sum("cost/generation_flops", generation)
    metrics.sum("cost/update_flops", update)
    if batch.prompts_read:
        metrics.sum("cost/selection_flops", reading)
    if batch.uncounted_tokens:
        metrics.sum("cost/oracle_tokens", batch.uncounted_tokens)
    metrics.sum(keys.FLOPS, generation + update + reading)
    metrics.sum("cost/problems_drawn", len(groups) + len(batch.gated))
    metrics.sum("cost/problems_rolled_out", len(groups))
    metrics.sum("cost/problems_gated", len(batch.gated))
    metrics.sum("cost/problems_audited", len(batch.audited))
    metrics.lasts(batch.seconds)


def _size(parameter: Any) -> int:
    # DeepSpeed's ZeRO-3 leaves an empty tensor in each process and notes the whole size.
    return int(getattr(parameter, "ds_numel", parameter.numel()))
