"""The warm start's texts: fallible solutions, some of them hinted, and well-formed metas that know nothing."""

from __future__ import annotations

import json
import math
import random
from functools import cache
from typing import TYPE_CHECKING

from masa.embedded.corpus import Example
from masa.embedded.long.author import worked_solution
from masa.embedded.long.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.embedded.long.world import KINDS, LABELS, MODULUS, OPERATIONS, ORDERS, SIZES, Chain, draw_chain, split_of

if TYPE_CHECKING:
    import jinja2

DISTRACTORS = ("symmetry", "induction", "geometry", "fractions")
# A word stands for all predictions of its range: the thought commits, and the numbers follow it.
DIFFICULTY_WORDS = {"hopeless": (0, 0), "hard": (1, 2), "mixed": (3, 5), "easy": (6, 7), "sure": (8, 8)}
LENGTH_WORDS = {
    "tiny": (16, 29),
    "brief": (30, 39),
    "short": (40, 49),
    "middling": (50, 64),
    "lengthy": (65, 79),
    "vast": (80, 99),
    "endless": (100, 180),
}
HINTED = 0.25
# The number of examples falls by half every so many steps of a chain: long chains come later, and stay rarer.
HALVING_STEPS_AT_FIRST, HALVING_STEPS_AT_LAST = 2.0, 12.0


def meta_prediction(chain: Chain, rng: random.Random) -> str:
    """A meta whose thought describes the problem and then guesses at random; the JSON object agrees with the guesses.

    Each guess stands right behind the words that it may come to depend on, so that a policy this small learns it.
    """
    names = [*ORDERS, *DISTRACTORS]
    difficulty, extent = rng.choice(list(DIFFICULTY_WORDS)), rng.choice(list(LENGTH_WORDS))
    prediction = {
        "notions": rng.sample(names, rng.choice((1, 1, 2))),
        "pass_rate": rng.randint(*DIFFICULTY_WORDS[difficulty]),
        "solution_length": rng.randint(*LENGTH_WORDS[extent]),
    }
    thought = f" {len(chain.operations):02d} {extent} {chain.kind} {difficulty} by"
    return f"<meta>{thought}</meta>{json.dumps(prediction)}"


def warm_start_examples(count: int, seed: int, *, short_first: bool = True) -> list[Example]:
    """``count`` pairs on train-split problems: five sixths solutions, a quarter of them hinted, and one sixth metas.

    ``short_first``: in the order of practice, mostly short chains first; else all lengths alike throughout.
    """
    rng = random.Random(f"embedded/long/corpus/{seed}" if short_first else f"embedded/long/corpus/{seed}/even")
    examples = []
    for i in range(count):
        if i % 6 == 5:
            chain = _train_chain(rng, None)
            examples.append(_example(META_TEMPLATE, chain, None, meta_prediction(chain, rng)))
            continue
        halving = HALVING_STEPS_AT_FIRST + (HALVING_STEPS_AT_LAST - HALVING_STEPS_AT_FIRST) * i / count
        chain = _train_chain(rng, halving if short_first else None)
        hint, order = _hint(rng) if rng.random() < HINTED else (None, None)
        examples.append(_example(SOLUTION_TEMPLATE, chain, hint, worked_solution(chain, rng, order)))
    return examples


def words() -> list[str]:
    """All words of prompts and responses, as they stand in the texts: with the space before them, or without."""
    plain = (
        "Solve",
        "Predict",
        "By",
        "Hm",
        "Hint",
        "Step",
        "Checked",
        "of",
        "from",
        "again",
        "by",
        "step",
        "steps",
        "twice",
        "no",
        "wait",
        "and",
    )
    named = (*KINDS, *ORDERS, *DISTRACTORS, *DIFFICULTY_WORDS, *LENGTH_WORDS, *OPERATIONS, *LABELS)
    digits = [str(digit) for digit in range(10)]
    numbers = [f"{number:02d}" for number in range(MODULUS)]
    bare = dict.fromkeys((*plain, *named, *digits, *numbers))
    statement_steps = [f" {label}{operation}" for label in LABELS for operation in OPERATIONS]
    return [*bare, *(f" {word}" for word in bare), *statement_steps]


def _hint(rng: random.Random) -> tuple[str, str | None]:
    """A hint as the controls write it, and the order that it names first; None where it names none."""
    notions = rng.sample([*ORDERS, *DISTRACTORS], rng.choice((1, 1, 2, 3)))
    return ", ".join(notions), next((notion for notion in notions if notion in ORDERS), None)


def _example(template: str, chain: Chain, hint: str | None, response: str) -> Example:
    return Example(_compiled(template).render(problem=chain.statement, hint=hint), response)


@cache
def _compiled(template: str) -> jinja2.Template:
    import jinja2

    return jinja2.Template(template)


def _train_chain(rng: random.Random, halving: float | None) -> Chain:
    """A problem of the train split, of any kind; chains that are ``halving`` steps longer are half as frequent.

    None: all numbers of steps alike.
    """
    counts = range(SIZES[0].fewest, SIZES[-1].most + 1)
    weights = [1.0 if halving is None else math.pow(0.5, (count - counts[0]) / halving) for count in counts]
    kind, steps = rng.choice(list(KINDS)), rng.choices(counts, weights=weights)[0]
    while True:
        chain = draw_chain(kind, steps, rng)
        if split_of(chain) == "train":
            return chain
