"""The policy in a checkpoint: as `transformers` and vLLM load it, and all that training needs to go on with it.

All processes write at once, each its own files: the pieces of the optimiser's tensors that it has, and a share of the
model's files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from torch import Tensor

from masa.config.schema import LoraSection, ModelSection
from masa.distributed.together import ALONE, Together
from masa.files.checked_files import CheckedFiles
from masa.files.tensor_files import Part, Parts, TensorFiles, numbered, write_parts
from masa.model.buffers import persistent_buffers
from masa.model.loading import load_policy
from masa.model.lora import adapter_parts, save_settings_beside
from masa.model.weights import plain_name, policy_weights, weight_sizes
from masa.policy.update.updater import PolicyUpdater
from masa.rollout.weights.saved_weights import SavedWeights, come_together

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_OPTIMIZER = "optimizer"
_WEIGHTS = "model"
_INDEX = "model.safetensors.index.json"
# What only training needs lies apart: vLLM takes every safetensors file beside a model's configuration for its weights.
TRAINING_FOLDER = "training"
# A model is one file unless there are several processes to write it, each of which has so many bytes to write at least.
_SMALLEST_FILE = 2**24
_LARGEST_FILE = 4 * 2**30


def policy_parts(model: PreTrainedModel, updater: PolicyUpdater | None, together: Together = ALONE) -> Iterator[Part]:
    """What this process writes of model (adapters merged), adapters and optimiser; all processes call it together.

    Without ``updater`` what only training needs is left out. `write_settings` writes what belongs to them, and
    `complete_policy` what can be written when all parts are there.
    """
    file = f"{TRAINING_FOLDER}/{_OPTIMIZER}-{together.process:05d}"
    parts: Iterable[Part] = chain(_model_parts(model, together), adapter_parts(model, together.first))
    values: Iterable[Part] = updater.value_parts(file) if updater is not None else ()
    if together.processes > 1:
        # While a process writes, the others would wait for it in the next collective.
        parts, values = [part.on_host() for part in parts], [part.on_host() for part in values]
    state = updater.state_parts(file) if updater is not None else ()
    return chain(parts, numbered(chain(values, state)))


def write_settings(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Write what a model needs beside its weights: configuration, code of its own, tokenizer, adapters' settings."""
    # `transformers` takes away files of weights that it finds where it saves: another process may be writing them.
    with TemporaryDirectory(prefix=".settings_", dir=folder) as name:
        aside = Path(name)
        model.save_pretrained(aside, state_dict={})
        # `transformers` writes a file without tensors.
        (aside / f"{_WEIGHTS}.safetensors").unlink(missing_ok=True)
        if tokenizer is not None:
            tokenizer.save_pretrained(aside)
        save_settings_beside(model, aside)
        for path in sorted(aside.rglob("*")):
            place = folder / path.relative_to(aside)
            if path.is_dir():
                place.mkdir(exist_ok=True)
            else:
                path.replace(place)


def complete_policy(folder: Path) -> None:
    """Write the index of a model of several files, which are all there."""
    from safetensors import safe_open

    files = sorted(folder.glob(f"{_WEIGHTS}-*.safetensors"))
    if not files:
        return
    where: dict[str, str] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            where.update(dict.fromkeys(file.keys(), path.name))
    size = sum(path.stat().st_size for path in files)
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_policy(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    updater: PolicyUpdater | None = None,
) -> None:
    """Write a model as `transformers` loads it, adapters merged and beside it; not where it is sharded over processes.

    With ``updater`` the folder also holds what training needs to go on.
    """
    write_settings(folder, model, tokenizer)
    write_parts(folder, policy_parts(model, updater))
    complete_policy(folder)


def _model_parts(model: PreTrainedModel, together: Together) -> Iterator[Part]:
    """This process's share of the model's tensors, under the names and in the shapes that its files have."""
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    if come_together(model):
        # What one tensor of the files is made of may be anywhere in the model.
        yield from _converted_whole(model, ignored, together)
        return
    files = _file_numbers(list(weight_sizes(model)), together.processes)
    last = max(files, default=1)
    convert = SavedWeights(model)
    for number, (name, tensor) in zip(files, policy_weights(model), strict=True):
        if (number - 1) % together.processes == together.process:
            file = f"{_WEIGHTS}.safetensors" if last == 1 else f"{_WEIGHTS}-{number:05d}-of-{last:05d}.safetensors"
            for saved_name, saved in convert([(name, tensor)]):
                if saved_name not in ignored:
                    yield Part(file, saved_name, saved)


def _converted_whole(model: PreTrainedModel, ignored: set[str], together: Together) -> Iterator[Part]:
    from transformers.core_model_loading import revert_weight_conversion

    weights = {}
    for name, tensor in policy_weights(model):
        if together.first:
            weights[name] = tensor.detach().to("cpu", copy=True)
    for name, tensor in revert_weight_conversion(model, weights).items() if together.first else ():
        if name not in ignored:
            yield Part(f"{_WEIGHTS}.safetensors", name, tensor)


def _file_numbers(sizes: Sequence[int], processes: int) -> list[int]:
    """The number of each tensor's file, from 1 on: about equal files, so many that each process has one to write."""
    total = sum(sizes)
    wanted = max(min(processes, total // _SMALLEST_FILE), -(-total // _LARGEST_FILE), 1)
    numbers: list[int] = []
    before = 0
    for size in sizes:
        numbers.append(before * wanted // max(total, 1))
        before += size
    used = {number: place for place, number in enumerate(sorted(set(numbers)), start=1)}
    return [used[number] for number in numbers]


def restore_policy(
    saved: CheckedFiles | Path, section: ModelSection, updater: PolicyUpdater, state: Mapping[str, int]
) -> None:
    """Give the policy in training the weights of a checkpoint, and its optimiser what it kept; all processes together.

    The checkpoint may have been written by another number of processes, or under another sharding. ``saved`` may be the
    folder that `write_policy` wrote.
    """
    checked = CheckedFiles.as_they_are(saved) if isinstance(saved, Path) else saved
    optimizer = training_tensors(checked)
    buffers = persistent_buffers(updater.module)
    trained = updater.trained_names
    own = all(f"value|{name}" in optimizer.names for name in trained)
    values = _saved_weights(checked, section, [*(() if own else trained), *buffers])
    updater.load_state(
        state, optimizer, _Renamed(optimizer, {name: f"value|{name}" for name in trained}) if own else values
    )
    for name, buffer in buffers.items():
        buffer.copy_(values.read_part(name, 0, buffer.numel()).reshape(buffer.shape))


def training_tensors(checked: CheckedFiles) -> TensorFiles:
    """What a checkpoint has of the optimiser; checkpoints of earlier versions have all files in one folder."""
    names = [name for name in checked.records if name.endswith(".safetensors")]
    found = [name for name in names if name.startswith(f"{TRAINING_FOLDER}/{_OPTIMIZER}-")]
    return TensorFiles(checked, found or [name for name in names if name.startswith(f"{_OPTIMIZER}-")])


def _saved_weights(checked: CheckedFiles, section: ModelSection, names: Sequence[str]) -> Parts:
    """Values of parameters and buffers, by their names in the policy's module, from a model's own files."""
    model_names = {name: plain_name(name.removeprefix("model.")) for name in names}
    model_files = [one for one in checked.records if one.startswith(_WEIGHTS) and one.endswith(".safetensors")]
    files = TensorFiles(checked, model_files)
    if files.names.issuperset(model_names.values()):
        return _Renamed(files, model_names)
    # A model whose files name parameters otherwise than its modules do is left to `transformers`.
    plain = section.model_copy(update={"path": str(checked.folder), "lora": LoraSection()})
    model = load_policy(plain)
    loaded: dict[str, Tensor] = {**persistent_buffers(model), **dict(model.named_parameters())}
    return _Loaded({name: loaded[plain].detach() for name, plain in model_names.items()})


class _Renamed:
    """Tensors of files under other names."""

    def __init__(self, parts: Parts, file_names: Mapping[str, str]) -> None:
        self._parts = parts
        self._file_names = file_names

    @property
    def names(self) -> set[str]:
        return set(self._file_names)

    def read_part(self, name: str, start: int, stop: int) -> Tensor:
        return self._parts.read_part(self._file_names[name], start, stop)


class _Loaded:
    """Tensors in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    @property
    def names(self) -> set[str]:
        return set(self._tensors)

    def read_part(self, name: str, start: int, stop: int) -> Tensor:
        return self._tensors[name].flatten()[start:stop]
