"""Seconds in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words: ``42.0 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
