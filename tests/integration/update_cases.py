"""One small policy and one batch of rows, and updates on them under any way of sharing them over processes.

Run as a program, with RANK, WORLD_SIZE and MASTER_PORT set, it is one of several processes that update under DDP and
under ZeRO 1, 2 and 3 in turn; the first of them writes what came out to the folder it is given.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from saved_folders import tensor_files
from small_policies import small_qwen3

from masa.config.algorithm import OptimizerSection
from masa.config.schema import LoraSection
from masa.distributed.processes import join_processes, leave_processes, make_accelerator
from masa.files.tensor_files import Part, numbered, write_parts
from masa.model.lora import add_adapters
from masa.model.weights import policy_weights
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

VOCABULARY = 97  # odd sizes, so that nothing divides by the number of processes
# Wide enough that nothing is clipped: then Adam's first moment after one step is the gradient times 1 - beta1.
SECTION = {"learning_rate": 1e-3, "warmup_steps": 0, "max_grad_norm": 1e9, "micro_batch_tokens": 128}
STAGES = (1, 2, 3)
LORA_ALPHA = 6


def make_rows(seed: int) -> list[TrainingRow]:
    """24 rows of natural lengths in groups of 6 that share a prompt, a third of them without an advantage."""
    numbers = random.Random(seed)
    rows = []
    for index in range(24):
        if index % 6 == 0:
            prompt = tuple(numbers.randrange(VOCABULARY) for _ in range(numbers.randint(8, 24)))
        response = numbers.randint(1, 24)
        ids = tuple(numbers.randrange(VOCABULARY) for _ in range(response))
        advantage = 0.0 if index % 3 == 0 else numbers.uniform(-2, 2)
        logprobs = tuple(numbers.uniform(-5, -1) for _ in range(response))
        rows.append(TrainingRow(prompt, ids, logprobs, advantage))
    return rows


def make_updater(
    accelerator: Accelerator,
    *,
    tied: bool = True,
    packed: bool = False,
    name: str = "dapo",
    adapters: bool = False,
    **changes: Any,
) -> tuple[Any, PolicyUpdater]:
    """The policy, always with the same weights, and its updater; with ``adapters`` only LoRA's are trained."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3}
    model = small_qwen3(**sizes, tie_word_embeddings=tied, initializer_range=0.2).train().to(accelerator.device)
    if adapters:
        add_adapters(model, LoraSection(rank=3, alpha=LORA_ALPHA))
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)  # at the start B is 0, and A has no gradient
    section = OptimizerSection(**{**SECTION, **changes})
    module = PolicyModule(model, temperature=0.9)
    updater = PolicyUpdater(
        accelerator,
        module,
        make_optimizer(module, section),
        section,
        preset(name).loss,
        constant_length=24,
        total_updates=4,
        packed=packed,
    )
    return model, updater


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy_weights(model)}


def gradient_of(updater: PolicyUpdater) -> dict[str, torch.Tensor]:
    """The gradient of the first update."""
    share = 1 - updater._section.beta1
    moments = {key: one for key, one in _whole_tensors(updater).items() if key.startswith("exp_avg|")}
    return {key.removeprefix("exp_avg|"): tensor / share for key, tensor in moments.items()}


def _whole_tensors(updater: PolicyUpdater) -> dict[str, torch.Tensor]:
    """What the optimiser keeps, put together from the pieces of all processes."""
    whole: dict[str, torch.Tensor] = {}
    own = [(one.name, one.start, one.shape, one.tensor.detach().cpu()) for one in updater.state_parts("optimizer")]
    for name, start, shape, piece in gather_object(own):
        if shape is None:
            whole[name] = piece.clone()
        else:
            flat = whole.setdefault(name, torch.full(shape, torch.nan, dtype=piece.dtype)).view(-1)
            flat[start : start + piece.numel()] = piece
    return whole


def two_updates(accelerator: Accelerator, folder: Path | None = None, **options: Any) -> dict[str, Any]:
    """The first gradient and the metrics of one update, and the weights after two; saved in between to ``folder``."""
    model, updater = make_updater(accelerator, **options)
    metrics = updater.update([make_rows(1)])
    found: dict[str, Any] = {"gradient": gradient_of(updater), "metrics": metrics}
    if folder is not None:
        save(folder, updater, model, accelerator)
    updater.update([make_rows(2)])
    return {**found, "weights": weights_of(model)}


def save(folder: Path, updater: PolicyUpdater, model: Any, accelerator: Accelerator) -> None:
    """Each process writes its own pieces, in files of a few tensors."""
    if accelerator.is_main_process:
        folder.mkdir()
    accelerator.wait_for_everyone()
    file = f"optimizer-{accelerator.process_index:05d}"
    own = [*updater.value_parts(file), *updater.state_parts(file)]
    write_parts(folder, numbered(own, file_bytes=4000))
    weights = [Part("model.safetensors", name, tensor) for name, tensor in weights_of(model).items()]
    if accelerator.is_main_process:
        write_parts(folder, weights)
        torch.save(updater.state_dict(), folder / "state.pt")
    accelerator.wait_for_everyone()


class Values:
    """Parameters by their names in the module: adapters, which the model has merged into it, lie beside it."""

    def __init__(self, folder: Path) -> None:
        self._saved, self._weights = tensor_files(folder, "optimizer"), tensor_files(folder, "model")

    @property
    def names(self) -> set[str]:
        return {f"model.{name}" for name in self._weights.names}

    def read_part(self, name: str, start: int, stop: int) -> torch.Tensor:
        if f"value|{name}" in self._saved.names:
            return self._saved.read_part(f"value|{name}", start, stop)
        return self._weights.read_part(name.removeprefix("model."), start, stop)


def second_update(accelerator: Accelerator, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The weights after the second update, of an updater that took up what ``save`` left."""
    model, updater = make_updater(accelerator, **options)
    updater.load_state(torch.load(folder / "state.pt"), tensor_files(folder, "optimizer"), Values(folder))
    updater.update([make_rows(2)])
    return weights_of(model)


def deepspeed_accelerator(
    stage: int, *, bf16: bool = False, accumulate: str | None = None, **settings: Any
) -> Accelerator:
    """An accelerator for ZeRO, in processes that have had another one before; ``settings`` are ZeRO's.

    ``accumulate`` is the type in which gradients of micro-batches add up; None: that of the parameters.
    """
    from accelerate import DeepSpeedPlugin

    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    AcceleratorState._reset_state(reset_partial_state=True)
    join_processes()
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, **settings}
    config = {"zero_optimization": zero, "bf16": {"enabled": bf16}, "zero_force_ds_cpu_optimizer": False}
    if accumulate is not None:
        config["data_types"] = {"grad_accum_dtype": accumulate}
    return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    outcomes: dict[str, Any] = {}
    accelerator = make_accelerator()
    outcomes["ddp"] = two_updates(accelerator, folder / "ddp")
    outcomes["ddp in small batches"] = two_updates(accelerator, micro_batch_tokens=1)
    has_peft = importlib.util.find_spec("peft") is not None
    if has_peft:
        outcomes["ddp lora"] = two_updates(accelerator, folder / "ddp_lora", adapters=True)
    for stage in STAGES:
        accelerator = deepspeed_accelerator(stage)
        outcomes[f"zero{stage}"] = two_updates(accelerator, folder / f"zero{stage}")
        outcomes[f"zero{stage} in small batches"] = two_updates(accelerator, micro_batch_tokens=1)
        outcomes[f"zero{stage} untied"] = two_updates(accelerator, tied=False)
        outcomes[f"zero{stage} after ddp"] = second_update(accelerator, folder / "ddp")
        if has_peft:
            outcomes[f"zero{stage} lora"] = two_updates(accelerator, folder / f"zero{stage}_lora", adapters=True)
            outcomes[f"zero{stage} lora after ddp"] = second_update(accelerator, folder / "ddp_lora", adapters=True)
    for stage in (1, 2):
        outcomes[f"zero3 after zero{stage}"] = second_update(accelerator, folder / f"zero{stage}")
    for stage in (2, 3):
        accelerator = deepspeed_accelerator(stage, offload_optimizer={"device": "cpu"})
        outcomes[f"zero{stage} offloaded"] = two_updates(accelerator)
        accelerator = deepspeed_accelerator(stage, bf16=True)
        outcomes[f"zero{stage} bf16"] = two_updates(accelerator, folder / f"zero{stage}_bf16")
        outcomes[f"zero{stage} bf16 resumed"] = second_update(accelerator, folder / f"zero{stage}_bf16")
    for stage in STAGES:
        name = f"zero{stage} bf16 added up in float32"
        accelerator = deepspeed_accelerator(stage, bf16=True, accumulate="fp32", overlap_comm=True)
        outcomes[name] = two_updates(accelerator, folder / f"zero{stage}_fp32", micro_batch_tokens=1)
        outcomes[f"{name} resumed"] = second_update(accelerator, folder / f"zero{stage}_fp32", micro_batch_tokens=1)
        accelerator = deepspeed_accelerator(stage, bf16=True)
        outcomes[f"zero{stage} bf16 added up in bf16"] = two_updates(accelerator, micro_batch_tokens=1)
    if accelerator.is_main_process:
        torch.save(outcomes, folder / "outcomes.pt")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_processes()
