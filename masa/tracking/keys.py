"""The names of metrics: the groups they live in, and the few that progress, summary and figures look for."""

from __future__ import annotations

import re

GROUPS = ("reward", "meta", "control", "policy", "rollout", "time", "cost", "eval", "callback")

CORRECTNESS = "reward/correctness"
R_META = "reward/r_meta"
R_LENGTH = "reward/r_length"
R_DIFFICULTY = "reward/r_difficulty"
R_NOTION = "reward/r_notion"
PARSE_RATE = "meta/parse_rate"
SOLUTION_LENGTH = "rollout/solution_length"
META_LENGTH = "rollout/meta_length"
TOKENS_GENERATED = "cost/tokens_generated"
TOKENS_TRAINED = "cost/tokens_trained"
FLOPS = "cost/flops"
STEP_SECONDS = "time/step"
EVALUATION_SECONDS = "time/evaluation"
HELD_OUT_ACCURACY = "eval/accuracy"

_KEY = re.compile(r"[a-z]+(/[\w@.+=-]+)+")


def check_key(key: str) -> str:
    """``key`` itself if it is a metric's name: ``group/name``, with a group from ``GROUPS``.

    Raises:
        ValueError: an unknown group, or a name with spaces or empty parts.
    """
    group = key.split("/", 1)[0]
    if group not in GROUPS or "/" not in key:
        raise ValueError(f"metric {key!r} belongs to no group; allowed: {', '.join(f'{name}/...' for name in GROUPS)}")
    if not _KEY.fullmatch(key):
        raise ValueError(f"metric {key!r} is not a name: allowed are letters, digits and _ @ . + = - between slashes")
    return key


def source_name(source: str) -> str:
    """A source of problems as it may stand in a metric's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", source) or "unnamed"


def is_timing(key: str) -> bool:
    """Whether a metric depends on the clock, and so differs between two otherwise equal runs."""
    return key.startswith("time/")
