from __future__ import annotations

import math

import policy_reference as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from masa.policy.forward.head import LogitTransform
from masa.policy.forward.logprobs import chunked_logprobs

WHOLE = 2**30
BLOCKS = 4 * 600 * 3  # a few tokens by 600 words of float32


def inputs(
    tokens: int, hidden_size: int, vocabulary: int, dtype: torch.dtype = torch.float64, seed: int = 0, size: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = size * torch.randn(tokens, hidden_size, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, hidden_size, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    log_softmax = (hidden @ weight.t() / temperature).log_softmax(1)
    return log_softmax.gather(1, targets[:, None])[:, 0], -(log_softmax.exp() * log_softmax).sum(1)


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.detach().double() - expected.detach()).norm() / expected.detach().norm())


def gradients(logprobs: Tensor, entropy: Tensor, of: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    steps = torch.linspace(-1, 2, logprobs.shape[0], dtype=logprobs.dtype)
    return torch.autograd.grad((logprobs * steps).sum() + (entropy * steps.flip(0)).sum(), of)


@pytest.mark.parametrize("budget", [WHOLE, 4 * 5 * 3, 8])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_agree_with_the_written_out_formula(budget: int, temperature: float) -> None:
    hidden, weight, targets = inputs(5, 3, 7)
    expected = reference.token_logprobs(hidden, weight, targets, temperature)
    expected_gradients = gradients(*expected, (hidden, weight))
    single = [one.detach().float().requires_grad_() for one in (hidden, weight)]
    for dtype_inputs, tolerance in (((hidden, weight), 1e-12), (tuple(single), 1e-6)):
        logprobs, entropy = chunked_logprobs(
            *dtype_inputs, targets, temperature=temperature, entropy_gradient=True, memory_budget=budget
        )
        assert entropy is not None
        assert relative(logprobs, expected[0]) < tolerance
        assert relative(entropy, expected[1]) < tolerance
        for actual, one in zip(gradients(logprobs, entropy, dtype_inputs), expected_gradients, strict=True):
            assert relative(actual, one) < tolerance


@pytest.mark.parametrize("budget", [WHOLE, 4 * 5 * 3, 8])
@pytest.mark.parametrize("transform", [LogitTransform(0.3), LogitTransform(1.7, 2.5)], ids=["scaled", "capped"])
@pytest.mark.parametrize("biased", [True, False])
def test_a_scale_a_soft_cap_and_a_bias_are_those_of_the_full_logits_gradients_included(
    budget: int, transform: LogitTransform, biased: bool
) -> None:
    hidden, weight, targets = inputs(5, 3, 7)
    bias = inputs(7, 1, 1)[0].detach()[:, 0].requires_grad_() if biased else None
    trained = (hidden, weight) if bias is None else (hidden, weight, bias)
    raw = hidden @ weight.t() * transform.scale + (0.0 if bias is None else bias * transform.scale)
    cap = transform.softcap
    log_softmax = ((raw if cap is None else cap * torch.tanh(raw / cap)) / 0.6).log_softmax(1)
    expected = log_softmax.gather(1, targets[:, None])[:, 0], -(log_softmax.exp() * log_softmax).sum(1)
    logprobs, entropy = chunked_logprobs(
        hidden,
        weight,
        targets,
        temperature=0.6,
        bias=bias,
        transform=transform,
        entropy_gradient=True,
        memory_budget=budget,
    )
    assert entropy is not None
    torch.testing.assert_close((logprobs, entropy), expected, rtol=1e-10, atol=1e-12)
    actual = gradients(logprobs, entropy, trained)
    torch.testing.assert_close(actual, gradients(*expected, trained), rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 40), vocabulary=st.integers(1, 2000), budget=st.integers(1000, 60000), seed=st.integers(0, 9)
)
def test_no_division_into_blocks_changes_the_result(tokens: int, vocabulary: int, budget: int, seed: int) -> None:
    hidden, weight, targets = inputs(tokens, 4, vocabulary, seed=seed)
    expected = plain(hidden, weight, targets)
    logprobs, entropy = chunked_logprobs(hidden, weight, targets, entropy_gradient=True, memory_budget=budget)
    assert entropy is not None
    torch.testing.assert_close((logprobs, entropy), expected, rtol=1e-10, atol=1e-12)
    actual = gradients(logprobs, entropy, (hidden, weight))
    torch.testing.assert_close(actual, gradients(*expected, (hidden, weight)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_scores_of_any_size_neither_overflow_nor_lose_the_entropy(budget: int) -> None:
    for size in (1e-4, 30.0, 1e4):
        hidden, weight, targets = inputs(6, 8, 1500, torch.float32, size=size)
        # The rounding of scores of 1e5 in float32 is no fault of the softmax, so both sides start from rounded scores.
        identity = torch.eye(1500, dtype=torch.float32)
        scores = (hidden @ weight.t()).detach()
        expected = plain(scores.double(), identity.double(), targets)
        logprobs, entropy = chunked_logprobs(scores, identity, targets, memory_budget=budget)
        assert entropy is not None
        torch.testing.assert_close(logprobs.double(), expected[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(entropy.double(), expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_uniform_scores_by_hand(budget: int) -> None:
    logprobs, entropy = chunked_logprobs(
        torch.zeros(3, 2), torch.randn(1024, 2), torch.tensor([0, 5, 1023]), memory_budget=budget
    )
    assert entropy is not None
    assert logprobs.tolist() == pytest.approx([-math.log(1024)] * 3)
    assert entropy.tolist() == pytest.approx([math.log(1024)] * 3)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation's result had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return result


@pytest.mark.parametrize("transform", [LogitTransform(), LogitTransform(0.5, 30.0)], ids=["plain", "capped"])
def test_no_tensor_exceeds_the_budget_or_the_weight_forward_or_backward(transform: LogitTransform) -> None:
    hidden, weight, targets = inputs(4000, 2, 5000, torch.float32)
    budget = 4 * 20_000
    with LargestTensor() as largest:
        logprobs, entropy = chunked_logprobs(
            hidden, weight, targets, transform=transform, entropy_gradient=True, memory_budget=budget
        )
        assert entropy is not None
        (logprobs.sum() + entropy.sum()).backward()
    assert largest.elements <= max(20_000, weight.numel())


def test_what_is_kept_for_backward_is_one_matrix_within_the_budget_and_a_vector_beyond_it() -> None:
    hidden, weight, targets = inputs(50, 4, 1000, torch.float32)
    for budget, expected in ((4 * 50_000, 50_000), (4 * 50_000 - 1, 0)):
        saved: list[int] = []

        def note(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            chunked_logprobs(hidden, weight, targets, memory_budget=budget)
        own = [size for size in saved if size not in (hidden.numel(), weight.numel(), 50)]
        assert sum(own) == expected


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_bfloat16_states_get_a_float32_softmax(budget: int) -> None:
    hidden, weight, targets = inputs(20, 16, 900, torch.bfloat16)
    logprobs, entropy = chunked_logprobs(hidden, weight, targets, entropy_gradient=True, memory_budget=budget)
    assert entropy is not None
    assert logprobs.dtype == entropy.dtype == torch.float32
    wide = [one.detach().double().requires_grad_() for one in (hidden, weight)]
    expected = plain(*wide, targets)
    assert relative(logprobs, expected[0]) < 1e-6
    assert relative(entropy, expected[1]) < 1e-6
    actual = gradients(logprobs, entropy, (hidden, weight))
    assert [one.dtype for one in actual] == [torch.bfloat16, torch.bfloat16]
    for one, other in zip(actual, gradients(*expected, tuple(wide)), strict=True):
        assert relative(one, other) < 2**-8


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_half_precision_states_meet_a_float32_head(budget: int) -> None:
    hidden, weight, targets = inputs(20, 16, 900, torch.float32)
    half = hidden.detach().bfloat16().requires_grad_()
    logprobs = chunked_logprobs(half, weight, targets, memory_budget=budget)[0]
    expected = plain(half.double(), weight.double(), targets)[0]
    assert relative(logprobs, expected) < 1e-6
    pulls = torch.autograd.grad(logprobs.sum(), (half, weight)), torch.autograd.grad(expected.sum(), (half, weight))
    assert relative(pulls[0][0], pulls[1][0].double()) < 2**-8
    assert relative(pulls[0][1], pulls[1][1].double()) < 1e-6


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_autocast_does_not_round_the_scores(budget: int) -> None:
    hidden, weight, targets = inputs(20, 16, 900, torch.float32)
    expected = chunked_logprobs(hidden, weight, targets, memory_budget=budget)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs = chunked_logprobs(hidden, weight, targets, memory_budget=budget)[0]
        gradient = torch.autograd.grad(logprobs.sum(), weight)[0]
    assert torch.equal(logprobs, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), weight)[0])


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_a_tied_embedding_collects_both_gradients(budget: int) -> None:
    _, weight, targets = inputs(9, 4, 700)
    tokens = torch.arange(9) * 3
    logprobs, _ = chunked_logprobs(weight[tokens].tanh(), weight, targets, memory_budget=budget)
    expected = plain(weight[tokens].tanh(), weight, targets)[0]
    pulls = [torch.autograd.grad(one.square().sum(), weight)[0] for one in (logprobs, expected)]
    torch.testing.assert_close(pulls[0], pulls[1])


@pytest.mark.parametrize("budget", [WHOLE, BLOCKS])
def test_frozen_parts_get_no_gradient_and_the_others_the_same(budget: int) -> None:
    hidden, weight, targets = inputs(9, 4, 700)
    full = torch.autograd.grad(plain(hidden, weight, targets)[0].sum(), (hidden, weight))
    for frozen_hidden, frozen_weight in ((True, False), (False, True)):
        one = hidden.detach().requires_grad_(not frozen_hidden)
        two = weight.detach().requires_grad_(not frozen_weight)
        chunked_logprobs(one, two, targets, memory_budget=budget)[0].sum().backward()
        assert (one.grad is None, two.grad is None) == (frozen_hidden, frozen_weight)
        learned, expected = (two.grad, full[1]) if frozen_hidden else (one.grad, full[0])
        torch.testing.assert_close(learned, expected)


def test_the_entropy_is_detached_unless_its_gradient_is_asked_for() -> None:
    hidden, weight, targets = inputs(4, 3, 11)
    for budget in (WHOLE, 64):
        logprobs, entropy = chunked_logprobs(hidden, weight, targets, memory_budget=budget)
        assert entropy is not None
        assert logprobs.requires_grad
        assert not entropy.requires_grad
        assert chunked_logprobs(hidden, weight, targets, with_entropy=False, memory_budget=budget)[1] is None


@pytest.mark.parametrize("budget", [WHOLE, 64])
def test_no_token_at_all_still_connects_the_graph(budget: int) -> None:
    hidden, weight, _ = inputs(3, 4, 50)
    logprobs, entropy = chunked_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.long), memory_budget=budget)
    assert entropy is not None
    assert logprobs.shape == entropy.shape == (0,)
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_a_log_prob_is_never_above_zero() -> None:
    scores = torch.full((64, 600), -60.0)
    targets = torch.arange(64)
    scores[torch.arange(64), targets] = 33.3 + torch.arange(64) / 7
    for budget in (WHOLE, BLOCKS):
        assert float(chunked_logprobs(scores, torch.eye(600), targets, memory_budget=budget)[0].max()) <= 0.0


def test_wrong_arguments_are_refused() -> None:
    hidden, weight, targets = inputs(4, 3, 11)
    with pytest.raises(ValueError, match=r"hidden is \(4, 3\), weight \(3, 11\)"):
        chunked_logprobs(hidden, weight.t(), targets)
    with pytest.raises(ValueError, match=r"targets are \(3,\) for 4 hidden states"):
        chunked_logprobs(hidden, weight, targets[:3])
    with pytest.raises(ValueError, match="temperature is 0"):
        chunked_logprobs(hidden, weight, targets, temperature=0)
    with pytest.raises(ValueError, match="no entropy to differentiate"):
        chunked_logprobs(hidden, weight, targets, with_entropy=False, entropy_gradient=True)
