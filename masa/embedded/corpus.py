"""The warm start's texts: fallible solutions for the solution path, well-formed but uninformed metas for the other."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from masa.embedded.solutions import METHODS, worked_solution
from masa.embedded.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.embedded.world import LEVELS, Level, draw_values, split_of, statement_of

DISTRACTORS = ("long division", "prime factors", "symmetry", "fractions", "geometry")
LENGTH_RANGE = (12, 99)
COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}
# A word stands for all predictions up to its bound: the thought commits, and the numbers follow it.
DIFFICULTY_WORDS = {0: "hopeless", 2: "hard", 5: "mixed", 7: "easy", 8: "sure"}
LENGTH_WORDS = {29: "tiny", 45: "short", 60: "middling", 76: "long", 99: "huge"}


@dataclass(frozen=True)
class Example:
    """One supervised pair: the user's message and the assistant's reply, before the chat template."""

    prompt: str
    response: str


def meta_prediction(values: tuple[int, ...], rng: random.Random) -> str:
    """A meta whose thought describes the problem and then guesses at random; the JSON object agrees with the guess.

    Pass rate and length are uniform and know nothing of the problem. What the policy may learn by reinforcement is to
    guess well where it thinks: a word chosen right after the description decides the numbers.
    """
    digits = len(str(max(values)))
    size = {1: "small", 2: "medium"}.get(digits, "large")
    number = COUNT_WORDS[len(values)]
    names = [method.name for method in METHODS] + list(DISTRACTORS)
    pass_rate, length = rng.randint(0, 8), rng.randint(*LENGTH_RANGE)
    prediction = {
        "notions": rng.sample(names, rng.choice((1, 2, 2, 3))),
        "pass_rate": pass_rate,
        "solution_length": length,
    }
    # Each guess stands right behind the words that it may come to depend on.
    difficulty = f"{number} {size} {_word(DIFFICULTY_WORDS, pass_rate)}"
    extent = f"{size} {number} {_word(LENGTH_WORDS, length)}"
    return f"<meta>To solve: {difficulty}. To write: {extent}.</meta>{json.dumps(prediction)}"


def warm_start_examples(count: int, seed: int) -> list[Example]:
    """``count`` pairs on train-split problems, three quarters solutions and a quarter metas.

    Solutions choose each method half the time and never show the untaught level; metas show every level.
    """
    rng = random.Random(f"embedded/corpus/{seed}")
    taught = [level for level in LEVELS if level.taught]
    examples = []
    for i in range(count):
        is_meta = i % 4 == 3
        values = _train_values(LEVELS if is_meta else taught, rng)
        statement = statement_of(values)
        if is_meta:
            prompt, response = META_TEMPLATE, meta_prediction(values, rng)
        else:
            prompt, response = SOLUTION_TEMPLATE, worked_solution(values, rng.choice(METHODS), rng)
        examples.append(Example(prompt.replace("{{ problem }}", statement), response))
    return examples


def _train_values(levels: tuple[Level, ...] | list[Level], rng: random.Random) -> tuple[int, ...]:
    level = rng.choices(levels, weights=[level.share for level in levels])[0]
    values = draw_values(level, rng)
    while split_of(values) != "train":
        values = draw_values(level, rng)
    return values


def _word(words: dict[int, str], value: int) -> str:
    """The word of the first bound that ``value`` does not exceed."""
    return next(word for bound, word in words.items() if value <= bound)
