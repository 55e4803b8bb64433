"""Checkpoints of one process without a run: what is in them of the policy."""

from pathlib import Path
from typing import Any

from torch import Tensor

from masa.checkpointing.saving import restore_policy
from masa.config.schema import ModelSection
from masa.files.checked_files import CheckedFiles
from masa.files.tensor_files import TensorFiles, write_parts
from masa.model.lora import adapter_parts, save_settings_beside
from masa.policy.update.updater import PolicyUpdater


def read_policy(folder: Path, updater: PolicyUpdater, state: dict[str, int]) -> None:
    """Take up what `masa.checkpointing.saving.write_policy` wrote."""
    checked = CheckedFiles.as_they_are(folder)
    restore_policy(checked, ModelSection(path=str(folder)), updater, state)
    assert checked.damage is None


def save_adapters(model: Any, folder: Path | None) -> None:
    """Write the adapters as a checkpoint has them; all processes together, all but the one that writes with None."""
    parts = list(adapter_parts(model, writes=folder is not None))
    if folder is not None:
        save_settings_beside(model, folder)
        write_parts(folder, parts)


def tensor_files(folder: Path, name: str) -> TensorFiles:
    """The tensors of the files whose names begin so, pieces of several processes put together."""
    checked = CheckedFiles.as_they_are(folder)
    return TensorFiles(checked, [one for one in checked.records if one.startswith(name) and one.endswith("tensors")])


def optimizer_tensors(updater: PolicyUpdater) -> dict[str, Tensor]:
    """What the optimiser keeps on one process, by name."""
    return {part.name: part.tensor.clone() for part in updater.state_parts("optimizer")}
