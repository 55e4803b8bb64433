"""Lists of the long world's problems, with the clean solution of each."""

from __future__ import annotations

import random

from masa.embedded.long.author import clean_solution
from masa.embedded.long.world import KINDS, LARGEST_COUNT, SIZES, SOURCE, Chain, Size, draw_chain, split_of
from masa.embedded.splits import Split, require_count, shuffled_by_share
from masa.problems.problem import Problem


def long_problems(split: Split, count: int | None = None, seed: int = 0) -> list[Problem]:
    """Distinct problems of one split; sizes come in their shares, kinds equally often; equal arguments, equal lists.

    ``count`` is at most 4,096 (train) or 256 (test); by default 2,048 or 256. A problem's ``solution`` is the clean
    solution in the right order, its ``metadata`` holds ``kind``, ``size``, ``steps`` and ``order``.

    Raises:
        ValueError: an unknown split, or a count outside of what the split holds.
    """
    count = min(2048, LARGEST_COUNT.get(split, 0)) if count is None else count
    require_count("embedded:long", split, count, LARGEST_COUNT)
    rng = random.Random(f"embedded/long/{split}/{seed}")
    seen: set[Chain] = set()
    problems = []
    for kind, size in _cells(count, rng):
        steps = rng.randint(size.fewest, size.most)
        chain = draw_chain(kind, steps, rng)
        while chain in seen or split_of(chain) != split:
            chain = draw_chain(kind, steps, rng)
        seen.add(chain)
        problems.append(problem_of(chain, size))
    return problems


def problem_of(chain: Chain, size: Size) -> Problem:
    """The chain as a problem of the library; its answer is a two-digit text such as ``07``."""
    return Problem(
        id=f"{chain.kind}-{chain.start:02d}-" + "-".join(chain.operations),
        statement=chain.statement,
        answer=f"{chain.answer:02d}",
        source=SOURCE,
        solution=clean_solution(chain),
        metadata={
            "kind": chain.kind,
            "size": size.name,
            "steps": len(chain.operations),
            "order": KINDS[chain.kind],
        },
    )


def _cells(count: int, rng: random.Random) -> list[tuple[str, Size]]:
    """Kind and size of ``count`` problems in random order, each pair as often as its share asks for."""
    pairs = [(kind, size) for kind in KINDS for size in SIZES]
    return shuffled_by_share(pairs, [count * size.share / 100 / len(KINDS) for _, size in pairs], count, rng)
