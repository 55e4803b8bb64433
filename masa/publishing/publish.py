"""A checkpoint of a run made ready for the hub: model, tokenizer, model card and figures in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from masa.checkpointing.checkpoint import list_checkpoints
from masa.publishing.card import model_card
from masa.publishing.upload import HubPushError, link_model, upload
from masa.reporting.runs import read_run_directory
from masa.tracking.figures import draw_figures
from masa.tracking.run_directory import RunDirectory

CARD = "README.md"
_PREFIX = ".upload-"


@dataclass(frozen=True)
class Publication:
    """A folder that is uploaded as one commit; `discard` it afterwards."""

    folder: Path
    step: int

    def upload(self, repo_id: str, *, private: bool, token: str | None = None) -> str:
        """Upload it; returns the address of the commit.

        Raises:
            HubPushError: the hub cannot be reached, or refuses.
        """
        return upload(self.folder, repo_id, private=private, token=token, message=f"Policy after step {self.step}")

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def prepare_publication(directory: RunDirectory, repo_id: str, step: int | None = None) -> Publication:
    """The folder for a checkpoint of the run: its newest, or that of ``step``.

    Raises:
        HubPushError: there is no such checkpoint.
    """
    found = dict(list_checkpoints(directory.checkpoints))
    if not found or (step is not None and step not in found):
        wanted = "a checkpoint" if step is None else f"the checkpoint of step {step}"
        raise HubPushError(f"{directory.path} lacks {wanted}; it has {sorted(found) or 'none'}")
    chosen = max(found) if step is None else step
    folder = Path(mkdtemp(prefix=_PREFIX, dir=directory.path))
    try:
        link_model(found[chosen], folder)
        add_card(directory, folder, repo_id, chosen)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Publication(folder, chosen)


def add_card(directory: RunDirectory, folder: Path, repo_id: str, step: int) -> None:
    """Put the model card of a run, and its figures, into a folder with its policy."""
    run = read_run_directory(directory.path)
    if run.section("tracking").get("figures", True):
        with suppress(Exception):  # pictures that cannot be drawn are left out, as at the end of the run
            draw_figures(directory.path)
    figures = sorted(directory.figures.glob("*.png"))
    if figures:
        (folder / "figures").mkdir(exist_ok=True)
        for path in figures:
            shutil.copy2(path, folder / "figures" / path.name)
    text = model_card(run, repo_id, step, figures=[path.name for path in figures])
    (folder / CARD).write_text(text, encoding="utf-8")


def card_writer(run: Path, repo_id: str) -> Callable[[Path], None] | None:
    """What writes the card of a run, as it is now, into a folder; None before its first step is recorded."""
    directory = RunDirectory(run)
    rows = directory.read_metrics()
    if not rows:
        return None
    step = max(row["step"] for row in rows)
    return lambda folder: add_card(directory, folder, repo_id, step)


def remove_leftovers(directory: RunDirectory) -> None:
    """Remove folders of uploads that a killed run has left."""
    for folder in directory.path.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)
