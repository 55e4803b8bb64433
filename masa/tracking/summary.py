"""The last thing a run shows: what changed between its beginning and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from masa.checkpointing.checkpoint import list_checkpoints
from masa.config import Config
from masa.tracking.durations import duration
from masa.tracking.figures import draw_figures
from masa.tracking.next_commands import next_commands
from masa.tracking.run_directory import RunDirectory

# Label, key before, key after.
_COMPARED = (
    ("held-out accuracy (pass@1)", "accuracy_before", "accuracy_after"),
    ("r_meta", "r_meta_first", "r_meta_last"),
    ("r_difficulty", "r_difficulty_first", "r_difficulty_last"),
    ("r_length", "r_length_first", "r_length_last"),
    ("r_notion", "r_notion_first", "r_notion_last"),
)


def print_summary(
    summary: Mapping[str, Any],
    console: Console | None = None,
    *,
    figures: Path | None = None,
    checkpoint: Path | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Print accuracy and meta-alignment before and after, seconds, tokens, where figures and checkpoint lie, and the
    ``commands`` that come next.

    ``summary`` is the content of ``summary.json``. What it lacks, or holds as null (meta-alignment in a run without
    metas), leaves no row.
    """
    console = console or Console()
    table = Table(box=ROUNDED, title="Summary", title_style="bold", header_style="dim", caption_justify="left")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="bold")
    table.add_column("change", justify="right")
    for label, before, after in _COMPARED:
        cells = _compared(summary.get(before), summary.get(after))
        if cells:
            table.add_row(label, *cells)
    if table.row_count:
        console.print(table)
    if facts := _facts(summary):
        console.print(Text(facts), soft_wrap=True)
    if table.row_count > 1:
        console.print(Text("Rewards: means over the first and the last tenth of the steps.", style="dim"))
    for name, steps in (summary.get("warning_signs") or {}).items():
        console.print(Text(f"Warning sign {name}: step {steps['first']} to step {steps['last']}"), soft_wrap=True)
    if figures is not None:
        console.print(Text(f"Figures: {figures}"), soft_wrap=True)
    if checkpoint is not None:
        console.print(Text(f"Checkpoint: {checkpoint}"), soft_wrap=True)
    if commands:
        console.print("What comes next:")
        for command in commands:
            console.print(Text(f"  {command}", style="bold"), soft_wrap=True)


def close_with_summary(summary: Mapping[str, Any], directory: RunDirectory, console: Console, config: Config) -> None:
    """Draw the figures of a finished run, if so asked, and print its summary; a picture that fails is no failed run."""
    drawn = False
    if config.tracking.figures:
        try:
            drawn = bool(draw_figures(directory.path))
        except Exception as error:
            console.print(f"The figures could not be drawn: {type(error).__name__}: {error}", highlight=False)
    checkpoints = list_checkpoints(directory.checkpoints)
    print_summary(
        summary,
        console,
        figures=directory.figures if drawn else None,
        checkpoint=checkpoints[-1][1] if checkpoints else None,
        commands=next_commands(directory.path, config),
    )


def _compared(before: float | None, after: float | None) -> tuple[str | Text, ...] | None:
    if before is None and after is None:
        return None
    if before is None or after is None:
        return tuple("" if value is None else f"{value:.3f}" for value in (before, after, None))
    change = after - before
    style = "green" if change > 0 else "red" if change < 0 else ""
    return f"{before:.3f}", f"{after:.3f}", Text(f"{change:+.3f}", style=style)


def _facts(summary: Mapping[str, Any]) -> str:
    parts = []
    if summary.get("steps") is not None:
        parts.append(f"{summary['steps']:,} steps")
    if summary.get("wall_seconds") is not None:
        parts.append(duration(summary["wall_seconds"]))
    if summary.get("tokens_generated") is not None:
        parts.append(f"{summary['tokens_generated']:,.0f} tokens generated")
    return ", ".join(parts)
