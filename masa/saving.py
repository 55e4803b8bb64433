"""The policy in a checkpoint: as `transformers` and vLLM load it, and all that training needs to go on with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from masa.config.schema import LoraSection, ModelSection
from masa.policy.buffers import persistent_buffers
from masa.policy.loading import load_policy
from masa.policy.lora import save_adapters
from masa.policy.optimizer_state import Read
from masa.policy.tensor_files import TensorFiles, write_tensors
from masa.policy.update import PolicyUpdater
from masa.rollout.weights import plain_name, policy_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_OPTIMIZER = "optimizer"
# What only training needs lies apart: vLLM takes every safetensors file beside a model's configuration for its weights.
TRAINING_FOLDER = "training"


def write_policy(
    folder: Path | None, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, updater: PolicyUpdater | None
) -> None:
    """Write model (adapters merged), tokenizer and adapters into ``folder``, the optimiser's tensors into a subfolder.

    Without ``updater`` what only training needs is left out. All processes must call this together, all but the one
    that writes with ``folder`` None.
    """
    if folder is None:
        deque(policy_weights(model), maxlen=0)
        if updater is not None:
            deque(updater.state_tensors(), maxlen=0)
        save_adapters(model, None)
        return
    write_model(folder, model)
    tokenizer.save_pretrained(folder)
    if updater is not None:
        (folder / TRAINING_FOLDER).mkdir()
        write_tensors(folder / TRAINING_FOLDER, _OPTIMIZER, updater.state_tensors())
    save_adapters(model, folder)


def write_model(folder: Path, model: PreTrainedModel) -> None:
    """Write a model as `transformers` loads it, adapters merged.

    Where it is sharded over processes, the others must iterate over `policy_weights` at the same time.
    """
    model.save_pretrained(folder, state_dict={name: tensor.cpu() for name, tensor in policy_weights(model)})


def restore_policy(folder: Path, section: ModelSection, updater: PolicyUpdater, state: Mapping[str, int]) -> None:
    """Give the policy in training the weights of a checkpoint, and its optimiser what it kept; all processes together.

    The checkpoint may have been written by another number of processes, or under another sharding.
    """
    # Checkpoints of earlier versions have all files in one folder.
    training = folder / TRAINING_FOLDER
    saved = TensorFiles(training if training.is_dir() else folder, _OPTIMIZER)
    buffers = persistent_buffers(updater.module)
    trained = updater.trained_names
    own = all(f"value|{name}" in saved.names for name in trained)
    read_model = _saved_weights(folder, section, [*(() if own else trained), *buffers])
    updater.load_state(state, saved, (lambda name: saved.read(f"value|{name}")) if own else read_model)
    for name, buffer in buffers.items():
        buffer.copy_(read_model(name))


def _saved_weights(folder: Path, section: ModelSection, names: Sequence[str]) -> Read:
    """Values of parameters and buffers, by their names in the policy's module, from a model's own files."""
    model_names = {name: plain_name(name.removeprefix("model.")) for name in names}
    files = _ModelFiles(folder)
    if files.names.issuperset(model_names.values()):
        return lambda name: files.read(model_names[name])
    # A model whose files name parameters otherwise than its modules do is left to `transformers`.
    plain = section.model_copy(update={"path": str(folder), "lora": LoraSection()})
    model = load_policy(plain)
    loaded: dict[str, Tensor] = {**persistent_buffers(model), **dict(model.named_parameters())}
    return lambda name: loaded[model_names[name]].detach()


class _ModelFiles:
    """The parameters in a model's safetensors files, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            file = safe_open(path, "pt")
            self._files.update(dict.fromkeys(file.keys(), file))

    @property
    def names(self) -> set[str]:
        return set(self._files)

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor
