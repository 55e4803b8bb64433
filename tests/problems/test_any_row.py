"""No row, however strange, ends a load in anything but a problem or a reason."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masa.problems import load_problems
from masa.problems.errors import RowError
from masa.problems.schemas import problem_from_row

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["A", "#### 3", "\\boxed{2}", "user", "math", "choice", "code", "a:b", "assert f()", "[1, 2]"]),
)
KEYS = st.sampled_from(
    ["role", "content", "question", "target", "ground_truth", "label", "text", "index", "split", "A"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
TEXT_COLUMNS = [
    "problem",
    "question",
    "prompt",
    "answer",
    "target",
    "answerKey",
    "solution",
    "code",
    "context",
    "level",
]
OTHER_COLUMNS = ["options", "choices", "test", "test_setup_code", "reward_model", "extra_info", "id", "task_id"]
COLUMNS = st.sampled_from([*TEXT_COLUMNS, *OTHER_COLUMNS, "data_source", "verifier", "explanation"])
ROWS = st.dictionaries(COLUMNS, VALUES, max_size=6)
GOOD = {"problem": "What is 1 + 1?", "answer": "2", "target": "2", "reward_model": {"ground_truth": "One?"}, "level": 1}


# The first text drawn makes Hypothesis's tables of characters, which takes a busy machine seconds.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rows=st.lists(ROWS, max_size=3),
    columns=st.sampled_from([None, {"answer": "target"}, {"statement": "reward_model.ground_truth", "id": "level"}]),
)
def test_any_row_is_a_problem_a_duplicate_or_a_bad_row(
    rows: list[dict[str, Any]], columns: dict[str, str] | None
) -> None:
    loaded = load_problems([GOOD, *rows], columns=columns, on_bad_row="skip")
    report = loaded.report
    assert len(loaded.problems) + len(report.bad_rows) + report.duplicates == report.rows_read == len(rows) + 1
    assert len({problem.id for problem in loaded.problems}) == len(loaded.problems)
    for problem in loaded.problems:
        (problem.id + problem.statement + problem.source + (problem.solution or "")).encode("utf-8")
        assert problem.answer not in (None, "")
    assert all(row.reason and "\n" not in row.reason for row in report.bad_rows)


@given(row=ROWS, verifier=st.sampled_from(["math", "choice", "code", "exact", "module:judge"]))
def test_any_row_under_any_verifier_is_a_problem_or_a_bad_row(row: dict[str, Any], verifier: str) -> None:
    with suppress(RowError):
        problem = problem_from_row(row, "fuzz", verifier=verifier)
        assert problem.verifier == verifier
        assert problem.statement.strip()
