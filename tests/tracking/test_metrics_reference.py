"""docs/metrics.md names every metric that the code can write, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from small_controls import HINTED_TEMPLATE

from masa import MASATrainer, load_config
from masa.rewards import Verdict
from masa.tracking.keys import GROUPS

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMED = {
    key
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for key in re.findall(r"`([^`]+)`", line.split(" | ")[0])
}
KEY = re.compile(rf"(?:{'|'.join(GROUPS)})/[\w@.+=-]*[a-z0-9]")
HOLE = ".+"


def _written() -> tuple[set[str], set[str], set[str]]:
    """Keys that stand in the source as they are, patterns of those put together there, and all string literals."""
    keys: set[str] = set()
    patterns: set[str] = set()
    literals: set[str] = set()
    for path in (PROJECT / "masa").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                literals.add(node.value)
                if KEY.fullmatch(node.value):
                    keys.add(node.value)
            if isinstance(node, ast.JoinedStr):
                parts = [str(one.value) if isinstance(one, ast.Constant) else None for one in node.values]
                if len(parts) > 1 and parts[0] is not None and KEY.match(f"{parts[0]}x"):
                    patterns.add("".join(HOLE if part is None else re.escape(part) for part in parts))
    return keys, patterns, literals


def _is_named(key: str) -> bool:
    name = re.sub(r"@\d+$", lambda match: "@n" if "majority" in key else "@k", key)
    return name in NAMED or re.sub(r"^eval/[^/]+/", "eval/", name) in NAMED


def test_every_key_in_the_source_is_named() -> None:
    keys, patterns, _ = _written()
    assert len(keys) > 60
    assert sorted(key for key in keys if not _is_named(key)) == []
    assert sorted(one for one in patterns if not any(re.fullmatch(one, key) for key in NAMED)) == []


def test_every_named_key_is_in_the_source() -> None:
    keys, patterns, literals = _written()
    # What evaluation calls otherwise than training does, and what ends in a number.
    known = {"accuracy", "pass@k", "majority@n", "solution_length", "solution_length_median"}

    def occurs(key: str) -> bool:
        group, name = key.split("/", 1)
        if key in keys or (group == "eval" and name in known):
            return True
        if group in ("policy", "eval") and not name.startswith(("verifier_", "function_", "term_")):
            return name in literals
        # The ends of an interval are written beside their estimate.
        return any(re.fullmatch(one, re.sub(r"_(low|high)$", "", key)) for one in patterns)

    assert sorted(key for key in NAMED if not KEY.fullmatch(key)) == []
    assert sorted(key for key in NAMED if not occurs(key)) == []


class EverySecondIsCorrect:
    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        return [Verdict(bool(number % 2), "correct" if number % 2 else "incorrect") for number, _ in enumerate(items)]


def test_a_run_with_everything_on_writes_only_named_keys(tmp_path: Path) -> None:
    config = load_config(
        PROJECT / "configs" / "quickstart_efficient.yaml",
        [
            f"run.dir={tmp_path}",
            "run.steps=2",
            "run.threads=1",
            "problems.limit=16",
            "problems.eval_limit=4",
            "rollout.max_solution_tokens=48",
            "rollout.max_meta_tokens=56",
            "algorithm.num_problems=3",
            "algorithm.num_solutions=3",
            "algorithm.num_metas=2",
            "algorithm.kl_coefficient=0.01",
            "algorithm.entropy_coefficient=0.01",
            "algorithm.tis_cap=2",
            "algorithm.dual_clip=10",
            "controls.stabilised.after_step=0",
            "controls.stabilised.metric=r_difficulty",
            "controls.stabilised.above=0",
            "controls.expert.batch_size=1",
            "controls.hinting.enabled=true",
            "controls.cutoff.floor=16",
            "controls.hinting.min_agreement=0",
            f"prompts.solution={HINTED_TEMPLATE!r}",
            "rollout.check_every=1",
            "checkpoint.every=0",
            "tracking.figures=false",
        ],
    )
    MASATrainer(config, verifier=EverySecondIsCorrect()).train()
    found = {key for line in (tmp_path / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)}
    assert sorted(key for key in found - {"step"} if not _is_named(key)) == []
    for name in ("policy/reference_kl", "policy/tis_weight", "policy/dual_clip_fraction", "policy/entropy"):
        assert name in found
    for name in ("control/gate_precision_low", "control/hinted_share", "control/cut_share", "control/expert_size"):
        assert name in found
