"""What a step cost, by formula."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from masa.controls.batch import ShapedBatch
from masa.embedded import load_embedded_tokenizer
from masa.embedded.model import fresh_policy
from masa.rollout.engine import Rollout
from masa.tracking.cost import ModelShape, model_shape, record_step_cost
from masa.tracking.metrics import StepMetrics

SHAPE = ModelShape(parameters=100, attention_width=8)


def _rollout(problem: str, prompt: int, tokens: int, path: Any = "solution") -> Rollout:
    return Rollout(problem, path, 0, tuple(range(prompt)), (1,) * tokens, (0.0,) * tokens, "stop", 0, 0.0)


def test_reading_tokens_costs_two_for_each_parameter_and_four_for_each_attended_position() -> None:
    # Three tokens at positions 1, 2, 3 attend to 1 + 2 + 3 = 6 positions: 3 * 200 + 4 * 8 * 6.
    assert SHAPE.forward_flops(0, 3) == 600 + 192
    # The third alone attends to 3.
    assert SHAPE.forward_flops(2, 3) == 200 + 96
    assert SHAPE.forward_flops(0, 2) + SHAPE.forward_flops(2, 3) == SHAPE.forward_flops(0, 3)


def test_a_prompt_is_read_once_for_its_samples_and_the_last_token_never() -> None:
    one = SHAPE.forward_flops(0, 5) + SHAPE.forward_flops(5, 7)
    assert SHAPE.generation_flops([_rollout("p", 5, 3)]) == one
    assert SHAPE.generation_flops([_rollout("p", 5, 3)] * 2) == one + SHAPE.forward_flops(5, 7)
    assert SHAPE.generation_flops([_rollout("p", 5, 3), _rollout("q", 5, 3)]) == 2 * one


def test_an_update_costs_three_forward_passes() -> None:
    assert SHAPE.update_flops([3, 4]) == 3 * (SHAPE.forward_flops(0, 3) + SHAPE.forward_flops(0, 4))


def test_the_formula_agrees_with_counted_matrix_products() -> None:
    tokenizer = load_embedded_tokenizer()
    policy = fresh_policy(tokenizer, 0)
    policy.set_attn_implementation("eager")
    length = 24
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy(torch.arange(length)[None], use_cache=False)
    shape = model_shape(policy)
    counted = counter.get_total_flops()
    # Eager attention computes the whole square where the formula counts the causal half.
    square = 4 * shape.attention_width * length * length
    causal = 4 * shape.attention_width * length * (length + 1) // 2
    assert shape.forward_flops(0, length) == pytest.approx(counted - square + causal, rel=0.01)


def test_a_step_counts_metas_of_gated_problems_and_problems_by_their_fate() -> None:
    def group(problem: str, metas: int) -> Any:
        return SimpleNamespace(solutions=[_rollout(problem, 4, 6)] * 2, metas=[_rollout(problem, 3, 5, "meta")] * metas)

    batch: Any = ShapedBatch(
        [], [], [], gated=[group("g", 2)], audited=frozenset({"a"}), seconds={"time/meta_rollout": 1.5}
    )
    metrics = StepMetrics()
    record_step_cost(metrics, SHAPE, [group("a", 2), group("b", 2)], batch, [10, 20])
    values = metrics.flatten()
    assert values["cost/solution_tokens"] == 2 * 2 * 6
    assert values["cost/meta_tokens"] == 3 * 2 * 5
    assert values["cost/tokens_generated"] == 24 + 30
    assert values["cost/prompt_tokens"] == 2 * 4 + 3 * 3
    assert values["cost/tokens_trained"] == 30
    assert values["cost/flops"] == values["cost/generation_flops"] + values["cost/update_flops"]
    fates = [values[f"cost/problems_{name}"] for name in ("drawn", "rolled_out", "gated", "audited")]
    assert fates == [3, 2, 1, 1]
    assert values["time/meta_rollout"] == 1.5


def test_a_model_without_attention_costs_what_its_parameters_multiply() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=4))
    shape = model_shape(model)
    assert shape.attention_width == 0
    assert shape.forward_flops(0, 5) == 10 * shape.parameters
