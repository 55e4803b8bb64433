"""MASA: post-training of reasoning models with Meta-Awareness via Self-Alignment (arXiv 2510.03259)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from masa.earlier_names import find_by_earlier_names

if TYPE_CHECKING:
    from masa.callbacks import Callback as Callback
    from masa.config import Config as Config
    from masa.config import load_config as load_config
    from masa.evaluate import evaluate as evaluate
    from masa.predict import predict as predict
    from masa.problems import Problem as Problem
    from masa.report import report as report
    from masa.rewards.functions import RewardFunction as RewardFunction
    from masa.rollout import Rollout as Rollout
    from masa.run import Run as Run
    from masa.run import load_run as load_run
    from masa.trainer import MASATrainer as MASATrainer

__version__ = "0.1.0"
find_by_earlier_names()

_HOMES = {
    "Callback": "masa.callbacks",
    "Config": "masa.config",
    "MASATrainer": "masa.trainer",
    "Problem": "masa.problems",
    "RewardFunction": "masa.rewards.functions",
    "Rollout": "masa.rollout",
    "Run": "masa.run",
    "load_config": "masa.config",
    "load_run": "masa.run",
}
# Modules that are functions as well (`masa.callable_modules`).
_CALLABLE_MODULES = ("evaluate", "predict", "report")
__all__ = [
    "Callback",
    "Config",
    "MASATrainer",
    "Problem",
    "RewardFunction",
    "Rollout",
    "Run",
    "evaluate",
    "load_config",
    "load_run",
    "predict",
    "report",
]


def __getattr__(name: str) -> Any:
    # Names are resolved on first use: `import masa` must not cost the import of torch.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _CALLABLE_MODULES:
        return importlib.import_module(f"masa.{name}")
    raise AttributeError(f"module 'masa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_CALLABLE_MODULES])
