"""Rows of LiveCodeBench: its test cases, public and private, as what the code verifier runs."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from typing import Any

from masa.evaluation.benchmarks.benchmark import Reading, Row, text_of
from masa.problems.errors import RowError, shown
from masa.problems.problem import Problem

# Unpacked, the largest row's cases have a few hundred megabytes; more is no test case.
_MOST_BYTES = 2**30
# Starter code is annotated with names of these modules without importing them.
_SETUP = (
    "from typing import *\nfrom collections import *\nfrom heapq import *\nimport bisect, functools, itertools, math"
)


def read_livecodebench(row: Row, reading: Reading) -> Problem:
    """A problem of standard input and output becomes ``cases``, one with starter code becomes ``asserts``."""
    cases = [*_cases(row, "public_test_cases"), *_cases(row, "private_test_cases")]
    if not cases:
        raise RowError("neither public_test_cases nor private_test_cases holds a test case")
    starter = row.get("starter_code") or ""
    statement = text_of(row, "question_content").strip()
    answer: dict[str, Any]
    if starter.strip():
        statement += f"\n\nYour code has to start from this:\n\n```python\n{starter.rstrip()}\n```"
        function = _function_name(row)
        answer = {"setup": _SETUP, "asserts": [_assert_of(case, function) for case in cases]}
    else:
        statement += "\n\nYour program reads from standard input and writes to standard output."
        answer = {"cases": [{"stdin": case["input"], "stdout": case["output"]} for case in cases]}
    return Problem(
        id=reading.problem_id(row.get("question_id")),
        statement=statement,
        answer=answer,
        source=reading.benchmark.name,
        verifier="code",
        metadata={
            name: row[name] for name in ("difficulty", "platform", "contest_date") if isinstance(row.get(name), str)
        },
    )


def _cases(row: Row, column: str) -> list[dict[str, str]]:
    raw = row.get(column)
    if raw in (None, ""):
        return []
    try:
        cases = json.loads(raw) if isinstance(raw, str) and raw.lstrip().startswith("[") else json.loads(_unpack(raw))
    except (ValueError, TypeError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise RowError(f"column {column!r} cannot be read as test cases: {error}") from None
    if not isinstance(cases, list) or not all(
        isinstance(case, dict) and isinstance(case.get("input"), str) and isinstance(case.get("output"), str)
        for case in cases
    ):
        raise RowError(f"column {column!r} is {shown(cases)}, a list of objects with 'input' and 'output' is needed")
    return cases


def _unpack(packed: str) -> str:
    """Private cases are JSON text, pickled, compressed and written in base 64."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(packed, validate=True), _MOST_BYTES)
    text = _PlainUnpickler(io.BytesIO(data)).load()
    if not isinstance(text, str | bytes):
        raise ValueError(f"a {type(text).__name__} is packed, JSON text is needed")
    return text if isinstance(text, str) else text.decode("utf-8")


class _PlainUnpickler(pickle.Unpickler):
    """Reads text and bytes alone: a pickle from the hub must not be able to call anything."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"the pickle asks for {module_name}.{global_name}; only text is read")


def _function_name(row: Row) -> str:
    raw = row.get("metadata")
    try:
        metadata = json.loads(raw) if isinstance(raw, str) and raw else raw
    except ValueError:
        metadata = None
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise RowError(f"column 'metadata' is {shown(raw)}; a problem with starter code needs its 'func_name'")
    return name


def _assert_of(case: dict[str, str], function: str) -> str:
    """One line of JSON an argument, and JSON of the result, as an assert on the method of `Solution`."""
    try:
        arguments = [json.loads(line) for line in case["input"].splitlines() if line.strip()]
        expected = json.loads(case["output"])
    except ValueError as error:
        raise RowError(f"a functional test case is not JSON: {error}") from None
    return f"assert Solution().{function}({', '.join(map(repr, arguments))}) == {expected!r}"
