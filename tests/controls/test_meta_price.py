"""The price of long meta-predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from controls_world import World, prediction
from hypothesis import given
from hypothesis import strategies as st

from masa.config import ConfigError, load_config
from masa.rewards.alignment import MetaReward
from masa.rewards.meta_price import length_price, priced


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0.0), (100, 0.0), (101, 0.3 / 200), (200, 0.15), (300, 0.3)])
def test_length_costs_nothing_up_to_the_free_tokens_and_then_rises_to_the_price_at_the_limit(
    tokens: int, expected: float
) -> None:
    assert length_price(tokens, free=100, limit=300, price=0.3) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 500)), max_size=8), st.floats(0, 2))
def test_only_the_total_is_priced_and_shorter_is_never_worse(metas: list[tuple[float, int]], price: float) -> None:
    rewards = [MetaReward(total, total, 0.5, 0.25) for total, _ in metas]
    found = priced(rewards, [length for _, length in metas], free=64, limit=500, price=price)
    assert [replace(one, total=0.0) for one in found] == [replace(one, total=0.0) for one in rewards]
    assert all(old.total - price - 1e-12 <= new.total <= old.total for old, new in zip(rewards, found, strict=True))
    same = priced([MetaReward(0.5, 0, 0, 0)] * 2, [70, 200], free=64, limit=500, price=price)
    assert same[0].total >= same[1].total


@pytest.mark.parametrize(("free", "limit", "price"), [(300, 300, 0.1), (-1, 10, 0.1), (1, 10, -0.1)])
def test_numbers_without_a_line_are_refused(free: int, limit: int, price: float) -> None:
    with pytest.raises(ValueError, match=rf"free is {free}, limit {limit} and price {price}"):
        length_price(5, free=free, limit=limit, price=price)


def test_a_training_step_prices_its_metas_by_their_tokens() -> None:
    def step(*overrides: str) -> list[MetaReward]:
        # Predictions of very different lengths.
        world = World(
            lambda problem, draw: prediction(0.5, 20, ["x"] * draw.choice((1, 12))),
            {f"p{n}": 0.5 for n in range(16)},
            *overrides,
        )
        _, groups, _ = world.step(1)
        lengths.extend(len(one.token_ids) for group in groups for one in group.metas)
        return [one for group in groups for one in group.meta_rewards]

    lengths: list[int] = []
    plain = step()
    charged = step("rewards.meta_length_price.price=0.4", "rewards.meta_length_price.free_tokens=40")
    lost = [before.total - after.total for before, after in zip(plain, charged, strict=True)]
    assert lost == pytest.approx([length_price(one, free=40, limit=256, price=0.4) for one in lengths[: len(lost)]])
    assert len({round(one, 6) for one in lost}) > 1


def test_a_price_needs_free_tokens_below_the_limit() -> None:
    options = ["rewards.meta_length_price.free_tokens=300", "rollout.max_meta_tokens=256"]
    load_config(None, options)
    with pytest.raises(ConfigError) as refused:
        load_config(None, [*options, "rewards.meta_length_price.price=0.1"])
    assert "free_tokens is 300" in str(refused.value)
    assert "less than rollout.max_meta_tokens (256)" in str(refused.value)
