"""The results as JSON and as a table."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acceptance.runner import Result, figures_line
from acceptance.session import Acceptance

SCHEMA = 1
_STATES = ("passed", "failed", "skipped", "not run")


def as_json(acceptance: Acceptance, results: Sequence[Result]) -> dict[str, Any]:
    """Everything: the machine, what each part needs and did, and how many ended how."""
    counts = Counter(result.status for result in results)
    what = {part.name: part.what for part in acceptance.parts}
    return {
        "schema": SCHEMA,
        "size": acceptance.size,
        "minutes": acceptance.seconds / 60,
        "machine": acceptance.machine,
        "counts": {state: counts[state] for state in _STATES},
        "parts": [{**result.as_dict(), "what": what.get(result.name, "the machine")} for result in results],
    }


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replace ``path`` at once, so that it is whole at any time."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(unfinished, path)


def as_table(acceptance: Acceptance, results: Sequence[Result]) -> str:
    """A Markdown table of all parts, then what failed with the end of what it printed, then the counts."""
    names = {part.name: part.what for part in acceptance.parts}
    lines = ["| part | what | result | seconds | figures |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        what = names.get(result.name, "versions and devices")
        said = result.reason or figures_line(result.figures)
        lines.append(f"| {result.name} | {what} | {result.status} | {result.seconds:.1f} | {said.replace('|', '/')} |")
    for result in results:
        if result.status == "failed":
            lines += ["", f"FAILED {result.name}: {result.reason}", *(f"    {one}" for one in _end(result.log))]
    counts = Counter(result.status for result in results)
    lines += ["", ", ".join(f"{counts[state]} {state}" for state in _STATES)]
    if acceptance.size == "cpu":
        lines += ["Rehearsed on the CPU with small sizes: no figure here is one of a GPU."]
    return "\n".join(lines)


def _end(log: str) -> list[str]:
    return log.strip().splitlines()[-15:]
