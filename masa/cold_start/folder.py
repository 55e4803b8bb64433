"""Where the cold start of a run lies, and what the run says of it."""

from __future__ import annotations

from pathlib import Path

from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory


def cold_start_folder(run: RunDirectory) -> Path:
    """Where the cold start of a run lies."""
    return run.path / "cold_start"


def cold_start_metrics(run: RunDirectory) -> dict[str, float]:
    """What step 0 of a run says of the cold start before it, from its summary; empty where there is none."""
    path = RunDirectory(cold_start_folder(run)).summary
    if not path.exists():
        return {}
    summary = jsonl.read_object(path)
    return {
        "control/cold_start_updates": float(summary["updates"]),
        "control/cold_start_parsed_before": summary["parsed_before"],
        "control/cold_start_parsed": summary["parsed_after"],
        "control/cold_start_correctness_before": summary["correctness_before"],
        "control/cold_start_correctness": summary["correctness_after"],
        "cost/tokens_generated": float(summary["tokens_generated"]),
        "cost/tokens_trained": float(summary["tokens_trained"]),
        "time/cold_start": summary["wall_seconds"],
    }
