"""Min-p: only tokens that are not much less probable than the most probable one are drawn."""

import math

import pytest
import torch

from masa.config import ConfigError, load_config
from masa.rollout.engine import Sampling
from masa.rollout.transformers.sampling import draw_tokens

PROBABILITIES = (0.5, 0.3, 0.15, 0.05)


def _drawn(uniform: float, **options: float) -> tuple[int, float]:
    logits = torch.tensor([PROBABILITIES]).log()
    tokens, logprobs = draw_tokens(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(**options))
    return int(tokens[0]), float(logprobs[0])


def test_tokens_below_the_share_of_the_most_probable_one_are_never_drawn() -> None:
    # 0.3 of 0.5 is 0.15, which stays; what is left is renormalised.
    token, logprob = _drawn(0.999999, min_p=0.3)
    assert token == 2
    assert logprob == pytest.approx(math.log(0.15 / 0.95), abs=1e-6)
    assert _drawn(0.999999, min_p=0.0)[0] == 3
    assert _drawn(0.999999, min_p=0.7)[0] == 0


def test_min_p_comes_before_top_p_as_in_vllm() -> None:
    # Of 0.5 and 0.3 alone the first has 0.625 of the probability, enough for a top-p of 0.6.
    token, logprob = _drawn(0.999999, min_p=0.4, top_p=0.6)
    assert (token, logprob) == (0, pytest.approx(0.0))
    assert _drawn(0.999999, top_p=0.6)[0] == 1


def test_the_share_is_one_of_the_distribution_at_the_temperature() -> None:
    assert _drawn(0.999999, temperature=0.5, min_p=0.3)[0] == 1
    assert _drawn(0.999999, temperature=2.0, min_p=0.3)[0] == 3


@pytest.mark.parametrize("found", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(found: float) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.min_p"):
        load_config(None, [f"rollout.min_p={found}"])
