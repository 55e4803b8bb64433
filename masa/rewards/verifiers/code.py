"""Programs: a function tested by asserts, or a program tested by its standard input and output, run in the sandbox."""

from __future__ import annotations

import ast
import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.rewards.sandbox.run import Run, run_python
from masa.rewards.verdict import Judgement
from masa.rewards.verifiers import Limits

# The pool kills its worker when an item's time is up; the program must be stopped, and its files removed, before that.
_SHARE_OF_TIME = 0.9
_FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_DEFINITION = re.compile(r"^\s*(?:def|class|async def)\s", re.MULTILINE)

# Runs inside the sandbox. The token tells a run that came to its end from one that left early (`sys.exit(0)`).
_ASSERTS_PROGRAM = """
import json, os, sys
def main():
    task = json.loads(sys.stdin.buffer.read())
    token, asserts = task["token"], task["asserts"]
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    namespace = {"__name__": "solution"}
    for source in (task["setup"], task["solution"], *asserts):
        exec(compile(source, "<solution>", "exec"), namespace)
    os.write(3, token.encode())
main()
"""


def verify_code(response: str, answer: Any, options: Any, limits: Limits) -> Judgement:
    r"""Correct when the program in the response passes every test.

    ``answer`` is ``{"asserts": [...]}`` (statements, run in order after the program; ``"setup"`` may hold code that
    runs before it), or ``{"cases": [{"stdin": ..., "stdout": ...}, ...]}`` (white space at line ends and blank lines at
    the end do not count). The program is the last fenced block (with asserts, the last one that defines something), or
    the whole response where that is Python. A program that runs into the time limit is ``timed_out``; one that runs
    into another limit has failed.

    Raises:
        ValueError: the answer holds no tests.
        SandboxUnavailableError: this system cannot isolate code; nothing was run.
    """
    asserts, cases = _tests(answer)
    program = extract_program(response, wants_definition=bool(asserts))
    if program is None:
        return Judgement(0.0, message="no program found")
    deadline = time.monotonic() + limits.seconds * _SHARE_OF_TIME
    limits.scratch.mkdir(mode=0o700)
    try:
        if asserts:
            outcome = _run_asserts(program, str(answer.get("setup", "")), asserts, limits, deadline)
        else:
            outcome = _run_cases(program, cases, limits, deadline)
    finally:
        shutil.rmtree(limits.scratch, ignore_errors=True)
    return Judgement(float(outcome is None), program, timed_out=outcome == "timeout", message=outcome or "")


def extract_program(response: str, wants_definition: bool) -> str | None:
    """The program in a response; None where there is none."""
    blocks = _FENCE.findall(response)
    if blocks:
        defining = [block for block in blocks if _DEFINITION.search(block)]
        return str((defining if wants_definition and defining else blocks)[-1])
    try:
        return response if response.strip() and ast.parse(response).body else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _tests(answer: Any) -> tuple[list[str], list[Mapping[str, Any]]]:
    if isinstance(answer, Mapping):
        asserts, cases = answer.get("asserts", []), answer.get("cases", [])
        if asserts and not cases and _all_are(asserts, str):
            return list(asserts), []
        if cases and not asserts and _all_are(cases, Mapping) and all("stdout" in case for case in cases):
            return [], list(cases)
    raise ValueError('code answer must be {"asserts": [str, ...]} or {"cases": [{"stdin": str, "stdout": str}, ...]}')


def _all_are(values: Any, kind: type) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(isinstance(v, kind) for v in values)


def _run_asserts(program: str, setup: str, asserts: list[str], limits: Limits, deadline: float) -> str | None:
    token = secrets.token_hex(16)
    task = json.dumps({"token": token, "setup": setup, "solution": program, "asserts": asserts}).encode()
    run = _run(["-c", _ASSERTS_PROGRAM], limits.scratch, task, limits, deadline)
    if run.end == "exit" and run.exit_code == 0 and run.report.decode(errors="replace") == token:
        return None
    return _failure(run)


def _run_cases(program: str, cases: list[Mapping[str, Any]], limits: Limits, deadline: float) -> str | None:
    for number, case in enumerate(cases):
        directory = limits.scratch / str(number)
        directory.mkdir(mode=0o700)
        path = directory / "program.py"
        path.write_bytes(program.encode(errors="surrogatepass"))
        run = _run([str(path)], directory, str(case.get("stdin", "")).encode(errors="replace"), limits, deadline)
        shutil.rmtree(directory, ignore_errors=True)
        if run.end != "exit" or run.exit_code != 0:
            return _failure(run)
        if _lines(run.stdout.decode(errors="replace")) != _lines(str(case["stdout"])):
            return f"case {number}: other output than expected"
    return None


def _run(arguments: list[str], directory: Path, stdin: bytes, limits: Limits, deadline: float) -> Run:
    return run_python(arguments, directory, stdin, max(0.01, deadline - time.monotonic()), limits.memory_mb)


def _failure(run: Run) -> str:
    if run.end == "timeout":
        return "timeout"
    if run.end != "exit":
        return f"killed for its {run.end}"
    last = run.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"exit code {run.exit_code}: {last[0][:300] if last else 'no message'}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
