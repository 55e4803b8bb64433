"""The code verifier: which programs pass, and what the sandbox gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from masa.rewards import Verdict, VerifierPool
from masa.rewards.sandbox import isolation
from masa.rewards.sandbox.isolation import SandboxUnavailableError
from masa.rewards.verifiers import check_verifier
from masa.rewards.verifiers.code import extract_program

pytestmark = pytest.mark.usefixtures("sandbox")

SQUARE = {"asserts": ["assert f(2) == 4", "assert f(-3) == 9"]}
SQUARE_LINES = {"cases": [{"stdin": "3\n", "stdout": "9\n"}, {"stdin": "4", "stdout": "16"}]}


def fenced(code: str) -> str:
    return f"I would write\n```python\n{code}\n```\nand that is it."


def run(pool: VerifierPool, code: str, answer: Any = SQUARE) -> Verdict:
    return pool.verify([{"verifier": "code", "response": fenced(code), "answer": answer}])[0]


def test_a_function_that_passes_every_assert_is_correct(pool: VerifierPool) -> None:
    verdict = run(pool, "def f(x):\n    return x * x")
    assert verdict.correct
    assert verdict.extracted == "def f(x):\n    return x * x\n"


def test_one_failing_assert_is_incorrect_and_says_why(pool: VerifierPool) -> None:
    verdict = run(pool, "def f(x):\n    return 4")
    assert (verdict.status, verdict.message) == ("incorrect", "exit code 1: AssertionError")


def test_set_up_code_runs_before_the_program(pool: VerifierPool) -> None:
    answer = {"setup": "import math\nfactor = 2", "asserts": ["assert f(8) == 6"]}
    assert run(pool, "def f(x, k=factor): return k * int(math.log2(x))", answer).correct


def test_a_program_is_compared_by_its_output(pool: VerifierPool) -> None:
    assert run(pool, "print(int(input()) ** 2, ' ')\nprint()", SQUARE_LINES).correct
    wrong = run(pool, "print(9)", SQUARE_LINES)
    assert (wrong.status, wrong.message) == ("incorrect", "case 1: other output than expected")


def test_a_program_that_fails_after_its_output_is_incorrect(pool: VerifierPool) -> None:
    assert run(pool, "print(int(input()) ** 2)\nraise SystemExit(3)", SQUARE_LINES).status == "incorrect"


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
def test_leaving_early_with_success_is_incorrect(pool: VerifierPool, leave: str) -> None:
    assert run(pool, leave).status == "incorrect"


@pytest.mark.parametrize(
    "code",
    [
        "open('notes', 'w').write('x')\nassert open('notes').read() == 'x'\nimport os\nos.remove('notes')",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "import asyncio\nasync def g(): return 1\nasyncio.run(g())",
        "import tempfile\ntempfile.TemporaryFile().write(b'x')",
        "import os\nassert not {'HOME', 'PATH'} - set(os.environ) and len(os.environ) < 10",
        "import collections, heapq, itertools, re, math, decimal, fractions, bisect, functools, zoneinfo",
        "import numpy\nassert numpy.dot([1, 2], [3, 4]) == 11",
        "import random\nrandom.random()",
        "import datetime\ndatetime.datetime.now()",
        "print('noise on standard output')",
        "import sys\nassert sys.stdin.read() == ''",
    ],
)
def test_honest_programs_have_what_they_need(pool: VerifierPool, code: str) -> None:
    verdict = run(pool, f"{code}\ndef f(x): return x * x")
    assert verdict.correct, verdict.message


def test_a_program_has_no_secrets_of_the_caller(pool: VerifierPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASA_TEST_SECRET", "1")
    with VerifierPool(workers=1, time_limit=10) as fresh:
        assert run(fresh, "import os\nf = lambda x: x * x * ('MASA_TEST_SECRET' not in os.environ)").correct


def test_a_program_that_takes_too_long_is_a_timeout_and_keeps_its_worker() -> None:
    with VerifierPool(workers=1, time_limit=1.5) as pool:
        verdict = run(pool, "while True: pass")
        assert verdict.status == "timeout"
        assert pool.counters == {"timeouts": 1, "errors": 0, "refused": 0, "crashes": 0}


def test_without_a_program_the_response_is_incorrect(pool: VerifierPool) -> None:
    verdict = pool.verify([{"verifier": "code", "response": "I cannot.", "answer": SQUARE}])[0]
    assert (verdict.status, verdict.extracted, verdict.message) == ("incorrect", None, "no program found")


@pytest.mark.parametrize(
    "answer", [None, "assert f(1)", {}, {"asserts": []}, {"cases": [{"stdin": "1"}]}, {"asserts": [1]}]
)
def test_an_answer_without_tests_is_an_error(pool: VerifierPool, answer: Any) -> None:
    verdict = run(pool, "def f(x): return x", answer)
    assert verdict.status == "error"
    assert "code answer must be" in verdict.message


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\na = 1\n```", "a = 1\n"),
        ("```\na = 1\n```", "a = 1\n"),
        ("```py\r\na = 1\n```", "a = 1\n"),
        ("```python\ndef f(): pass\n```\nuse it\n```python\nf()\n```", "def f(): pass\n"),
        ("```python\ndef f(): pass\n```\nbetter\n```python\ndef f(): return 1\n```", "def f(): return 1\n"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("Not a program at all.", None),
        ("", None),
    ],
)
def test_the_program_of_a_response_is_found(response: str, program: str | None) -> None:
    assert extract_program(response, wants_definition=True) == program


def test_a_system_that_cannot_isolate_is_told_before_any_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation.check_sandbox.cache_clear()
    monkeypatch.setattr(isolation, "landlock_version", lambda: 0)
    try:
        with pytest.raises(SandboxUnavailableError, match=r"needs Landlock: Linux 5\.13"):
            check_verifier("code")
    finally:
        isolation.check_sandbox.cache_clear()


def test_reference_solutions_of_mbpp_pass_their_tests(pool: VerifierPool, mbpp_test: Path) -> None:
    rows = [json.loads(line) for line in mbpp_test.read_text().splitlines()][::25]
    items = [{"verifier": "code", "response": fenced(row["code"]), "answer": {"asserts": row["test"]}} for row in rows]
    failed = [(row["task_id"], v.message) for row, v in zip(rows, pool.verify(items), strict=True) if not v.correct]
    assert failed == []
