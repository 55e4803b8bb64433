"""MASA: post-training of reasoning models with Meta-Awareness via Self-Alignment (arXiv 2510.03259)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masa.config import Config as Config
    from masa.config import load_config as load_config
    from masa.problems import Problem as Problem
    from masa.rollout import Rollout as Rollout
    from masa.trainer import MASATrainer as MASATrainer

__version__ = "0.1.0"

_HOMES = {
    "Config": "masa.config",
    "MASATrainer": "masa.trainer",
    "Problem": "masa.problems",
    "Rollout": "masa.rollout",
    "load_config": "masa.config",
}
__all__ = ["Config", "MASATrainer", "Problem", "Rollout", "load_config"]


def __getattr__(name: str) -> Any:
    # Names are resolved on first use: `import masa` must not cost the import of torch.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'masa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
