"""A policy handed over: to a folder that `transformers` loads, or to the Hugging Face hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import PartialState

from masa.checkpointing.saving import write_policy
from masa.model.sharded import is_sharded
from masa.publishing.upload import HubPushError, upload

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_policy(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Write model (adapters merged) and tokenizer; of several processes the first one writes.

    A policy that was saved there before is replaced once the new one is written whole; other files stay.

    Raises:
        ValueError: the model is sharded over processes.
    """
    if is_sharded(model):
        raise ValueError(
            "the policy is sharded over the processes of the run; the newest folder in checkpoints/ of the run "
            "directory holds it whole"
        )
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as written:
            write_policy(Path(written), model, tokenizer)
            _move_over(Path(written), folder)
    return folder


def _move_over(written: Path, folder: Path) -> None:
    """Put what was written in the place of an earlier policy, whose weights may lie in more files."""
    new = {entry.name for entry in written.iterdir()}
    for earlier in (*folder.glob("model*.safetensors"), *folder.glob("model.safetensors.index.json")):
        if earlier.name not in new:
            earlier.unlink()
    for entry in list(written.iterdir()):
        place = folder / entry.name
        if place.is_dir():
            shutil.rmtree(place)
        entry.replace(place)


def push_policy(
    repo_id: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    private: bool,
    token: str | None,
    message: str,
    describe: Callable[[Path], None] | None = None,
) -> str:
    """Upload what `save_policy` writes, and what ``describe`` puts into the folder (a model card).

    Returns the address of the commit, and on processes but the first "".

    Raises:
        ValueError: the model is sharded over processes.
        HubPushError: the hub cannot be reached, or refuses.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_policy(folder, model, tokenizer)
        if not PartialState().is_main_process:
            return ""
        if describe is not None:
            describe(folder)
        try:
            return upload(folder, repo_id, private=private, token=token, message=message)
        except HubPushError as error:
            raise HubPushError(
                f"{error}. Log in with `hf auth login` or set HF_TOKEN, or write the policy with save(folder) and "
                "upload the folder later"
            ) from error
