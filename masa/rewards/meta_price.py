"""The price of long meta-predictions, a choice beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from masa.rewards.alignment import MetaReward


def length_price(tokens: int, *, free: int, limit: int, price: float) -> float:
    """What a meta-prediction of ``tokens`` tokens loses: price * (tokens - free) / (limit - free), 0 up to ``free``.

    At the response limit that is the whole ``price``; from 0 at ``free`` it rises linearly, as DAPO's soft overlong
    punishment (arXiv 2503.14476, equation 13) does before the limit.

    Raises:
        ValueError: ``free`` is not below ``limit``, or ``price`` is negative.
    """
    if not 0 <= free < limit or price < 0:
        raise ValueError(
            f"free is {free}, limit {limit} and price {price}; 0 <= free < limit and a price from 0 needed"
        )
    return price * max(0, tokens - free) / (limit - free)


def priced(
    rewards: Sequence[MetaReward], lengths: Sequence[int], *, free: int, limit: int, price: float
) -> list[MetaReward]:
    """The rewards with ``total`` lowered by the price of each meta's length in tokens; components stay as measured.

    ``total`` may fall below 0, so that of two useless predictions the shorter one is the better.

    Raises:
        ValueError: as `length_price`, or as many lengths as rewards are not there.
    """
    if price == 0:
        return list(rewards)
    return [
        replace(one, total=one.total - length_price(length, free=free, limit=limit, price=price))
        for one, length in zip(rewards, lengths, strict=True)
    ]
