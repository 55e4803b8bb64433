"""Data sets that have a short name (docs/problems.md)."""

from __future__ import annotations

PRESETS = {
    "deepscaler": "agentica-org/DeepScaleR-Preview-Dataset",
    "dapo_math_17k": "BytedTsinghua-SIA/DAPO-Math-17k",
    "gsm8k": "openai/gsm8k:main",
    "math": "TianHongZXY/MATH",
}
"""Preset name to hub id, with the configuration after a colon. Their rows are of schemas that `schemas.py` knows."""
