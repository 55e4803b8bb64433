"""The corpus of math verdicts: right and wrong answers of every kind that verifiers are known to get wrong."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from masa.rewards import Verdict, VerifierPool

CORPUS = Path(__file__).with_name("math_verdicts.txt")

Pair = tuple[bool, str, str]


def read_corpus() -> dict[str, list[Pair]]:
    """By kind: whether the answer is right, the gold answer, the answer.

    A line ``# kind`` begins a kind; ``+ gold ;; answer`` is a right answer, ``- gold ;; answer`` a wrong one.
    """
    kinds: dict[str, list[Pair]] = {}
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            pairs = kinds.setdefault(line[2:], [])
            continue
        gold, separator, answer = line[2:].partition(" ;; ")
        assert line[:2] in ("+ ", "- "), line
        assert separator, line
        pairs.append((line[0] == "+", gold, answer))
    return kinds


KINDS = read_corpus()


@pytest.fixture(scope="module")
def verdicts(pool: VerifierPool) -> dict[str, list[Verdict]]:
    """All pairs in one call, as a step would send them."""
    kinds = [(kind, pair) for kind, pairs in KINDS.items() for pair in pairs]
    items = [
        {"verifier": "math", "response": rf"So the answer is $\boxed{{{answer}}}$.", "answer": gold}
        for _, (_, gold, answer) in kinds
    ]
    found = defaultdict(list)
    for (kind, _), verdict in zip(kinds, pool.verify(items), strict=True):
        found[kind].append(verdict)
    return found


def test_the_corpus_holds_right_and_wrong_answers_of_each_kind() -> None:
    pairs = [pair for kind in KINDS.values() for pair in kind]
    assert len(set(pairs)) == len(pairs) >= 400
    for kind, own in KINDS.items():
        assert {right for right, _, _ in own} == {True, False}, kind


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_are_right(kind: str, verdicts: dict[str, list[Verdict]]) -> None:
    wrong = [
        f"{answer!r} for {gold!r} is {'right' if right else 'wrong'}, judged {verdict.status}"
        for (right, gold, answer), verdict in zip(KINDS[kind], verdicts[kind], strict=True)
        if verdict.status != ("correct" if right else "incorrect")
    ]
    assert not wrong, f"{kind}: {len(wrong)} of {len(KINDS[kind])}\n" + "\n".join(wrong)
