"""Drawing from a large vocabulary: by blocks of tokens, and the same tokens as by one running sum."""

import pytest
import torch

from masa.rollout.engine import Sampling
from masa.rollout.transformers.sampling import _BLOCK, _LARGE, _inverted, _inverted_by_blocks, draw_tokens


@pytest.mark.parametrize("vocabulary", [_LARGE, 10 * _BLOCK + 1, 5 * _BLOCK - 1])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_blocks_give_the_tokens_that_one_running_sum_gives_up_to_rounding(vocabulary: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = scale * torch.randn((200, vocabulary), generator=generator)
    uniforms = torch.rand(200, generator=generator, dtype=torch.float64)
    drawn, expected = _inverted_by_blocks(logits, uniforms), _inverted(logits, uniforms)
    assert int((drawn != expected).sum()) <= 1
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    above = cumulative.gather(1, drawn[:, None])[:, 0]
    below = above - logits.double().softmax(dim=-1).gather(1, drawn[:, None])[:, 0]
    assert bool((uniforms < above + 1e-6).all())
    assert bool((uniforms > below - 1e-6).all())


@pytest.mark.parametrize("uniform", [0.0, 1e-300, 0.5, 1 - 2**-53])
def test_a_token_without_probability_is_never_drawn(uniform: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((300, 2 * _LARGE), generator=generator)
    allowed = torch.rand(logits.shape, generator=generator) < 0.001
    allowed[:, 5000] = True
    logits[~allowed] = -torch.inf
    drawn = _inverted_by_blocks(logits, torch.full((300,), uniform, dtype=torch.float64))
    assert bool(allowed.gather(1, drawn[:, None]).all())
    if uniform == 0.0:
        assert torch.equal(drawn, allowed.int().argmax(dim=1))


def test_frequencies_follow_the_distribution_over_all_blocks() -> None:
    draws = 2_000
    logits = torch.full((1, _LARGE), -torch.inf)
    tokens, shares = [0, _BLOCK - 1, _BLOCK, _LARGE - 1], torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits[0, tokens] = shares.log()
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn, logprobs = draw_tokens(logits.expand(draws, -1), uniforms, Sampling())
    for token, share in zip(tokens, shares.tolist(), strict=True):
        assert abs(float((drawn == token).float().mean()) - share) < 0.04
    torch.testing.assert_close(logprobs.exp(), shares[torch.tensor([tokens.index(one) for one in drawn.tolist()])])
