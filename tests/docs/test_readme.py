"""The README's commands and its Python block run as written, in order, in a fresh clone.

What needs a GPU, the hub, the package index or hours says so in a comment above it, and is left out here; every command
is checked against its parser in test_commands.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell_blocks import ROOT, ShellBlock, shell_blocks

README = ROOT / "README.md"
ALLOWED_NEEDS = {"", "a GPU", "the Hugging Face hub", "the package index", "hours"}
RUN = [block for block in shell_blocks(README) if not block.needs]


def test_a_block_that_is_not_run_says_what_it_needs() -> None:
    blocks = shell_blocks(README)
    assert {block.needs for block in blocks} <= ALLOWED_NEEDS
    assert len(RUN) >= 3
    assert sum(len(block.commands()) for block in RUN) >= 6
    # A comment that excuses a block is no excuse for what needs nothing.
    needed = {
        "a GPU": r"node_|\[vllm",
        "the Hugging Face hub": r"(--model |model\.path=)\w+/",
        "the package index": r"pip install|scripts/",
        "hours": "masa study",
    }
    assert [block.text for block in blocks if block.needs and not re.search(needed[block.needs], block.text)] == []


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, or would add, in a folder of their own."""
    folder = tmp_path_factory.mktemp("clone") / "masa"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def _environment(clone: Path) -> dict[str, str]:
    """Programs of this environment, and the clone's package in place of the installed one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}


def _run(block: ShellBlock, clone: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=clone,
        env=_environment(clone),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


# Slow: the first command is the whole quickstart, five minutes of training.
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_commands_run_as_written_and_give_the_numbers_beside_them(clone: Path) -> None:
    pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
    shown = [_run(block, clone) for block in RUN]
    first = shown[0]
    assert "What comes next:\n  masa report runs/quickstart" in first
    assert (clone / "runs" / "quickstart" / "report.html").is_file()
    assert re.search(r"pass@1, % +[\d.]+ \[", first)
    assert re.search(r"\b\d of \d\b", first)  # meta-predictions that masa predict could read
    assert "solution prompt" in "".join(shown[1:])
    assert len((clone / "runs" / "two-processes" / "metrics.jsonl").read_text().splitlines()) == 5
    summary = json.loads((clone / "runs" / "quickstart" / "summary.json").read_text())
    row = re.search(r"^\| 0 \| (.*) \|$", README.read_text(), re.MULTILINE)
    assert row is not None
    accuracy, difficulty, length, notion, tokens = row[1].split(" | ")
    # Another CPU or version rounds otherwise, so runs drift apart; what is claimed is the size of the change.
    for text, before, after, tolerance in (
        (accuracy, "accuracy_before", "accuracy_after", 0.05),
        (difficulty, "r_difficulty_first", "r_difficulty_last", 0.1),
        (length, "r_length_first", "r_length_last", 0.1),
        (notion, "r_notion_first", "r_notion_last", 0.15),
    ):
        claimed = [float(one) for one in text.split(" → ")]
        assert [summary[before], summary[after]] == pytest.approx(claimed, abs=tolerance)
    assert summary["tokens_generated"] == pytest.approx(int(tokens.replace(",", "")), rel=0.1)


# Slow: twenty steps of training, most of a minute.
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_python_block_runs_as_written(clone: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block + "\nprint(sorted(summary)[0])"],
        cwd=clone,
        env=_environment(clone),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "accuracy_after"
    assert (clone / "runs" / "notebook-1" / "summary.json").is_file()
