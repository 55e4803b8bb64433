"""What a run's checkpoints need on the disk of ``run.dir``, and what is free there."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from masa.checkpointing.checkpoint import holds_model_alone, list_checkpoints
from masa.checkpointing.size import Contents, checkpoint_size, most_at_once
from masa.config import Config
from masa.planning.shapes import DecoderShape
from masa.tracking.run_directory import RunDirectory


def show_disk(config: Config, shape: DecoderShape, *, sharded: bool, steps: int | None, console: Console) -> None:
    """Print what checkpoints take, and a line where the file system of ``run.dir`` has no room for them.

    Args:
        sharded: under DeepSpeed.
        steps: steps of the run, None where they are not known.
    """
    section = config.checkpoint
    one = checkpoint_size(
        shape.parameters, shape.trained, config.model.dtype, sharded=sharded, contents=section.contents
    )
    written = None if steps is None else math.ceil(steps / (section.every or steps))
    count = most_at_once(section.keep, keeps_best=section.best_metric is not None, written=written)
    folder = RunDirectory(config.run.dir).checkpoints
    room = free_bytes(folder) + _replaced_bytes(folder, section.contents)
    table = Table(title="Disk, by arithmetic", show_header=False)
    rows = {
        "model in a checkpoint, GB": f"{(one.model + one.adapter) / 1e9:.2f}",
        "training state in a checkpoint, GB": f"{one.training / 1e9:.2f}",
        "a checkpoint, GB": f"{one.total / 1e9:.2f}, {one.total / shape.parameters:.1f} bytes a parameter",
        "at a time at most, the one being written included": f"{count} of them, {count * one.total / 1e9:.2f} GB",
        "free for checkpoints in run.dir, GB": f"{room / 1e9:.2f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    if count * one.total > room:
        console.print(
            f"run.dir: {config.run.dir} has {room / 1e9:.2f} GB for checkpoints, which take up to "
            f"{count * one.total / 1e9:.2f} GB: they do not fit; lower checkpoint.keep (found {section.keep}), set "
            "checkpoint.best_metric to null or checkpoint.contents to model, or choose a run.dir with more room",
            highlight=False,
        )


def free_bytes(path: Path) -> int:
    """Bytes that may be written below ``path``, which need not exist yet."""
    nearest = next(part for part in (path, *path.absolute().parents) if part.exists())
    return shutil.disk_usage(nearest).free


def _replaced_bytes(folder: Path, contents: Contents) -> int:
    """Bytes of an earlier run's checkpoints, in whose place those of a resumed run come.

    A checkpoint that a run can go on from is not replaced by those that hold the model alone.
    """
    replaced = [path for _, path in list_checkpoints(folder) if contents == "all" or holds_model_alone(path)]
    return sum(file.stat().st_size for path in replaced for file in path.rglob("*") if file.is_file())
