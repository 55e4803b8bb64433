"""The pool: order, limits, counters, replacement of workers, and an end with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from masa.rewards import Verdict, VerifierPool, check_verifier

TOWER = r"\boxed{9^{9^{9^{9^{9}}}}}"


def hanging(n: int) -> str:
    """A response whose answer no limit is long enough for, though nothing in it looks large."""
    return rf"\boxed{{\prod_{{k=1}}^{{10000000{n}}} (k^2 + 1)}}"


def math_item(response: str, answer: Any = "4") -> dict[str, Any]:
    return {"verifier": "math", "response": response, "answer": answer}


def user_item(function: str, response: str = "abc", answer: Any = "xyz") -> dict[str, Any]:
    return {"verifier": f"user_verifiers:{function}", "response": response, "answer": answer}


def statuses(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


def essence(verdicts: Sequence[Verdict]) -> list[tuple[bool, str, str | None, float]]:
    return [(verdict.correct, verdict.status, verdict.extracted, verdict.score) for verdict in verdicts]


def test_verdicts_come_in_the_order_of_the_items(pool: VerifierPool) -> None:
    items = [math_item(rf"\boxed{{{n}}}", n if n % 3 else n + 1) for n in range(200)]
    verdicts = pool.verify(items)
    assert [verdict.correct for verdict in verdicts] == [n % 3 != 0 for n in range(200)]
    assert [verdict.extracted for verdict in verdicts] == [str(n) for n in range(200)]


def test_a_verdict_says_what_was_extracted_and_how_long_it_took(pool: VerifierPool) -> None:
    verdict = pool.verify([math_item(r"so \boxed{\frac{8}{2}}.")])[0]
    assert verdict.correct
    assert (verdict.status, verdict.extracted, verdict.score) == ("correct", r"\frac{8}{2}", 1.0)
    assert 0 < verdict.seconds < 20


def test_no_items_give_no_verdicts(pool: VerifierPool) -> None:
    assert pool.verify([]) == []


def test_a_hanging_item_costs_itself_alone() -> None:
    items = [math_item(r"\boxed{\sqrt{16}}") for _ in range(24)]
    guilty = [3, 4, 17]
    for n in guilty:
        items[n] = math_item(hanging(n))
    with VerifierPool(workers=2, time_limit=0.5) as pool:
        started = time.perf_counter()
        verdicts = pool.verify(items)
        seconds = time.perf_counter() - started
        assert [n for n, verdict in enumerate(verdicts) if verdict.status == "timeout"] == guilty
        assert all(verdict.correct for n, verdict in enumerate(verdicts) if n not in guilty)
        assert pool.counters == {"timeouts": 3, "errors": 0, "refused": 0, "crashes": 0}
        assert seconds < len(items) * 0.5 / 2


def test_equal_answers_to_equal_problems_are_settled_once_timeouts_included() -> None:
    with VerifierPool(workers=1, time_limit=1.0) as pool:
        pool.start()
        started = time.perf_counter()
        verdicts = pool.verify([math_item(f"Way {n}: {hanging(0)}") for n in range(8)] + [math_item(r"\boxed{4}")])
        assert time.perf_counter() - started < 3
        assert statuses(verdicts) == ["timeout"] * 8 + ["correct"]
        assert pool.counters["timeouts"] == 8


def test_only_what_a_verdict_depends_on_makes_two_items_equal(pool: VerifierPool) -> None:
    same = [math_item(r"a \boxed{2}", 2), math_item(r"b \boxed{2}", 3), math_item(r"b \boxed{3}", 2)]
    assert [verdict.correct for verdict in pool.verify(same)] == [True, False, False]
    option = {"verifier": "choice", "response": "The answer is red.", "answer": "B"}
    options = ({"A": "red", "B": "blue"}, {"A": "blue", "B": "red"})
    assert [verdict.correct for verdict in pool.verify([{**option, "options": one} for one in options])] == [
        False,
        True,
    ]


def test_a_users_verifier_is_asked_of_every_item(pool: VerifierPool, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    pool.verify([user_item("process_id", answer=str(log))] * 5)
    assert len(log.read_text().splitlines()) == 5


def test_what_a_killed_worker_leaves_goes_item_by_item_to_all_workers() -> None:
    # Chunks are of 8 items here, so one worker gets all that hang.
    items = [math_item(rf"\boxed{{{n}}}", n) for n in range(64)]
    items[:8] = [math_item(hanging(n)) for n in range(8)]
    with VerifierPool(workers=2, time_limit=1.0) as pool:
        pool.start()
        started = time.perf_counter()
        verdicts = pool.verify(items)
        seconds = time.perf_counter() - started
    assert statuses(verdicts) == ["timeout"] * 8 + ["correct"] * 56
    # One after the other they take 8 s; the first alone and seven over two workers take 5 s, and a busy machine longer.
    assert seconds < 7.5


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9^{9}}}}",
        "9**9**9**9",
        "2^{10^9}",
        "(100!)!",
        r"\binom{10^{12}}{10^{11}}",
        r"0.5^{9^{99}}",
        "1e999999999",
    ],
)
def test_an_answer_too_large_to_evaluate_is_refused_at_once_and_counted(answer: str) -> None:
    with VerifierPool(workers=1, time_limit=60) as pool:
        pool.start()
        started = time.perf_counter()
        verdicts = pool.verify([math_item(rf"Way {n}: \boxed{{{answer}}}") for n in range(8)])
        assert time.perf_counter() - started < 2
        assert statuses(verdicts) == ["refused"] * 8
        assert not any(verdict.correct or verdict.score for verdict in verdicts)
        assert "not evaluated" in verdicts[0].message
        assert pool.counters == {"timeouts": 0, "errors": 0, "refused": 8, "crashes": 0}


def test_a_large_answer_written_like_the_gold_one_is_correct(pool: VerifierPool) -> None:
    assert pool.verify([math_item(TOWER, "9^{9^{9^{9^{9}}}}")])[0].correct


@pytest.mark.parametrize("function", ["hangs", "hangs_in_c"])
def test_neither_sleep_nor_c_code_outlasts_the_limit(function: str) -> None:
    with VerifierPool(workers=1, time_limit=0.3) as pool:
        started = time.perf_counter()
        assert statuses(pool.verify([user_item(function), math_item(r"\boxed{4}")])) == ["timeout", "correct"]
        assert time.perf_counter() - started < 3


def test_a_worker_that_dies_is_replaced_and_counted() -> None:
    with VerifierPool(workers=2, time_limit=5) as pool:
        ordinary = [math_item(r"\boxed{4}") for _ in range(10)]
        verdicts = pool.verify([*ordinary, user_item("dies"), *ordinary, user_item("crashes")])
        assert statuses(verdicts) == ["correct"] * 10 + ["error"] + ["correct"] * 10 + ["error"]
        assert "exit code 3" in verdicts[10].message
        # Each had a second try, in case the first death had come from outside.
        assert pool.counters == {"timeouts": 0, "errors": 2, "refused": 0, "crashes": 4}
        assert statuses(pool.verify(ordinary)) == ["correct"] * 10


def worker_ids(pool: VerifierPool, log: Path) -> set[int]:
    pool.verify([user_item("process_id", answer=str(log))] * 64)
    return {int(line) for line in log.read_text().splitlines()}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("noticed", [False, True], ids=["at once", "once it was noticed"])
def test_an_idle_worker_killed_from_outside_costs_no_verdict(tmp_path: Path, workers: int, noticed: bool) -> None:
    with VerifierPool(workers=workers, time_limit=30) as pool:
        victim = psutil.Process(worker_ids(pool, tmp_path / "pids").pop())
        broken = pool._pool
        victim.kill()
        psutil.wait_procs([victim], timeout=10)
        if noticed and broken is not None and broken._pool_manager_loop is not None:
            broken._pool_manager_loop.join(timeout=10)
            assert not broken.active
        assert statuses(pool.verify([math_item(r"\boxed{4}")] * 40)) == ["correct"] * 40


def test_a_busy_worker_killed_from_outside_costs_no_verdict(tmp_path: Path) -> None:
    with VerifierPool(workers=1, time_limit=30) as pool:
        log = tmp_path / "pids"
        items = [user_item("process_id", answer=str(log)), user_item("killed_once", answer=str(log))]
        assert statuses(pool.verify(items)) == ["correct", "correct"]
        assert pool.counters == {"timeouts": 0, "errors": 0, "refused": 0, "crashes": 1}


def test_memory_is_limited_per_worker() -> None:
    with VerifierPool(workers=1, time_limit=30, memory_limit_mb=512) as pool:
        verdicts = pool.verify([math_item(r"\boxed{4}"), user_item("eats_memory"), math_item(r"\boxed{4}")])
        assert statuses(verdicts) == ["correct", "error", "correct"]
        assert "out of memory" in verdicts[1].message
        assert pool.counters == {"timeouts": 0, "errors": 1, "refused": 0, "crashes": 0}


def test_an_exception_is_an_error_with_its_reason(pool: VerifierPool) -> None:
    pool.reset_counters()
    verdicts = pool.verify([user_item("raises"), user_item("exits"), user_item("too_much"), math_item("4", "")])
    assert statuses(verdicts) == ["error"] * 4
    assert "KeyError: 'abc'" in verdicts[0].message
    assert "1.5" in verdicts[2].message
    assert "math answer is empty" in verdicts[3].message
    assert pool.reset_counters() == {"timeouts": 0, "errors": 4, "refused": 0, "crashes": 0}
    assert pool.counters == {"timeouts": 0, "errors": 0, "refused": 0, "crashes": 0}


def test_a_users_verifier_may_give_a_share(pool: VerifierPool) -> None:
    verdicts = pool.verify(
        [
            user_item("same_length"),
            user_item("share_of_words", "red and blue", ["red", "green"]),
            user_item("share_of_words", "red and blue", ["red", "blue"]),
        ]
    )
    assert [(verdict.correct, verdict.score) for verdict in verdicts] == [(True, 1.0), (False, 0.5), (True, 1.0)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mth", "unknown verifier 'mth'; allowed: choice, code, exact, math, or module:function"),
        ("user_verifiers:missing", "cannot be imported"),
        ("no_such_module:f", "cannot be imported"),
        ("user_verifiers:not_a_function", "is a str, not a function"),
        ("__main__:f", "main script"),
    ],
)
def test_an_unknown_verifier_is_refused_before_any_worker_starts(name: str, reason: str) -> None:
    pool = VerifierPool(workers=1)
    with pytest.raises(ValueError, match="verifier") as caught:
        pool.verify([math_item("4"), {"verifier": name, "response": "", "answer": ""}])
    assert reason in str(caught.value)
    assert pool._pool is None
    with pytest.raises(ValueError, match="verifier"):
        check_verifier(name)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"verifier": "math", "response": "x"}, r"item 1 has missing keys \['answer'\]"),
        ({"verifier": "math", "response": "x", "answer": "", "limit": 3}, r"unknown keys \['limit'\]"),
        ({"verifier": "math", "response": None, "answer": ""}, "response is a NoneType, a str needed"),
        ({"verifier": "math", "response": "", "answer": {1, 2}}, "what JSON can hold"),
    ],
)
def test_a_malformed_item_is_refused_with_its_index(item: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VerifierPool(workers=1).verify([math_item("4"), item])


@pytest.mark.parametrize(
    "arguments", [{"workers": 0}, {"time_limit": 0}, {"time_limit": float("inf")}, {"memory_limit_mb": 10}]
)
def test_a_pool_that_could_not_protect_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needed"):
        VerifierPool(**arguments)


def test_results_are_the_same_for_any_number_of_workers(pool: VerifierPool) -> None:
    answers = [
        r"\frac{1}{2}",
        "0.5",
        r"\{1,2\}",
        "(1,2]",
        "x^2+2x+1",
        r"\sqrt{8}",
        "1/0",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
    ]
    items = [math_item(rf"\boxed{{{one}}}", other) for one in answers for other in answers]
    items += [user_item("raises"), user_item("same_length"), math_item("")]
    expected = essence(pool.verify(items))
    for workers in (1, 3):
        with VerifierPool(workers=workers, time_limit=20.0) as other_pool:
            assert essence(other_pool.verify(items)) == expected
    assert essence(pool.verify(items)) == expected


def test_any_character_survives_the_way_to_the_worker_and_back(pool: VerifierPool) -> None:
    text = "\x00\ud800 \udfff\n\u2028é\U0001f600"
    verdict = pool.verify([{"verifier": "exact", "response": rf"\boxed{{{text}}}", "answer": text}])[0]
    assert verdict.correct
    assert verdict.extracted is not None
    assert "\ud800" in verdict.extracted


def test_workers_load_no_training_library(pool: VerifierPool) -> None:
    assert pool.verify([user_item("loaded_modules")])[0].correct


def test_a_closed_pool_says_so_and_leaves_nothing_behind() -> None:
    with VerifierPool(workers=2) as pool:
        pool.verify([math_item("4")])
        assert pool._directory is not None
        directory = Path(pool._directory.name)
        assert list(directory.iterdir()) == []
    assert not directory.exists()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.verify([math_item("4")])


def test_128_answers_of_a_step_take_well_under_a_tenth_of_a_second(pool: VerifierPool) -> None:
    items = [math_item(rf"12 + {n} is \boxed{{{12 + n}}}", str(12 + n + n % 2)) for n in range(128)]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        pool.verify(items)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1


SCRIPT = """
import os, sys, time
sys.path.insert(0, {tests!r})
from masa.rewards import VerifierPool

print("main", flush=True)
pool = VerifierPool(workers=2, time_limit=60)
pool.start()
print("started", flush=True)
pool.verify([{{"verifier": "user_verifiers:hangs", "response": "", "answer": ""}}] * 2)
"""


def test_workers_end_with_a_parent_that_is_killed_and_never_run_its_script(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent)))
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "main\n"
        assert process.stdout.readline() == "started\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3
        process.kill()
        # Had a worker run the script, it would have printed its first line again.
        assert process.stdout.read() == ""
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
