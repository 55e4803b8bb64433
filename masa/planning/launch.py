"""How a run is started: by this process alone, by a launcher that is at work, or as `accelerate launch` would start it.

Everything is read through accelerate's own parser and DeepSpeed plugin, so that what they refuse is refused here, and
what the run itself refuses is checked by the run's own functions.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from masa.config import Config, ConfigError
from masa.distributed.processes import refuse_fsdp, require_precise_updates
from masa.planning.training_state import Sharding
from masa.policy.update.sharding import settle

# DeepSpeed's defaults (deepspeed/runtime/zero/config.py), in elements.
_REDUCE_BUCKET = 500_000_000
_LIVE_PARAMETERS = 1_000_000_000
_SUB_GROUP = 1_000_000_000
_TYPES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2}


@dataclass(frozen=True)
class Launch:
    """Processes, the machines they are on, and the variables that a launcher gives to each."""

    processes: int
    machines: int
    environment: Mapping[str, str]
    source: str

    @property
    def on_one_machine(self) -> int:
        """Processes of one machine."""
        return -(-self.processes // self.machines)


def launch_at_work(environment: Mapping[str, str]) -> Launch:
    """The launch that this process is a part of, or this process alone."""
    if "LOCAL_RANK" not in environment:
        return Launch(1, 1, environment, "this process alone")
    processes = int(environment.get("WORLD_SIZE", "1"))
    local = int(environment.get("LOCAL_WORLD_SIZE", processes))
    return Launch(processes, max(1, -(-processes // local)), environment, "the current launcher")


def is_first(environment: Mapping[str, str]) -> bool:
    """Whether this process is the one that prints."""
    return environment.get("RANK", environment.get("LOCAL_RANK", "0")) == "0"


def planned_launch(options: str) -> Launch:
    """The launch of ``accelerate launch OPTIONS -m masa.train ...``; a file alone means ``--config_file``.

    Raises:
        ConfigError: accelerate would refuse it.
    """
    from accelerate.commands import launch as command
    from accelerate.utils import launch as variables

    words = shlex.split(options)
    if words and not words[0].startswith("-"):
        words.insert(0, "--config_file")
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            parsed = command.launch_command_parser().parse_args([*words, "-m", "masa.train"])
            parsed, defaults, precision_from_file = command._validate_launch_command(parsed)
            # Ports are a matter of the moment of the launch.
            parsed.main_process_port = 0
            if parsed.use_deepspeed:
                fields = list(defaults.deepspeed_config) if defaults else []
                parsed.deepspeed_fields_from_accelerate_config = ",".join(
                    [*fields, *(["mixed_precision"] if precision_from_file else [])]
                )
                environment = variables.prepare_deepspeed_cmd_env(parsed)[1]
            elif parsed.multi_gpu or parsed.use_fsdp or parsed.use_megatron_lm:
                environment = variables.prepare_multi_gpu_env(parsed)
            else:
                environment = variables.prepare_simple_launcher_cmd_env(parsed)[1]
                parsed.num_processes, parsed.num_machines = 1, 1
    except SystemExit:
        raise ConfigError(f"--launch: found {options!r}, allowed: options of accelerate launch, or its file") from None
    except Exception as error:
        raise ConfigError(f"--launch: accelerate refuses {options!r}: {error}") from error
    return Launch(int(parsed.num_processes), int(parsed.num_machines), environment, f"accelerate launch {options}")


def sharding_of(launch: Launch, config: Config) -> Sharding:
    """How the processes share an update, and whether the run would take it so.

    Raises:
        ConfigError: accelerate, DeepSpeed or the run would refuse it.
    """
    from accelerate.utils import patch_environment

    given = _accelerates(launch)
    with patch_environment(**given):
        refuse_fsdp()
        require_precise_updates(config.model)
    precision = given.get("ACCELERATE_MIXED_PRECISION", "no")
    if given.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        return Sharding(processes=launch.processes, autocast=precision == "bf16" and config.model.dtype == "float32")
    settings = deepspeed_settings(launch, precision)
    settle(settings, config.optimizer.max_grad_norm)
    zero = settings["zero_optimization"]
    accumulated = settings.get("data_types", {}).get("grad_accum_dtype")
    size = 2 if config.model.dtype == "bfloat16" else 4
    return Sharding(
        processes=launch.processes,
        stage=int(zero["stage"]),
        gradient_bytes=_TYPES.get(str(accumulated), size),
        offload_optimizer=_offloaded(zero, "offload_optimizer"),
        offload_parameters=_offloaded(zero, "offload_param"),
        overlap=bool(zero.get("overlap_comm", zero["stage"] == 3)),
        reduce_bucket=_elements(zero, "reduce_bucket_size", _REDUCE_BUCKET),
        live_parameters=_elements(zero, "stage3_max_live_parameters", _LIVE_PARAMETERS),
        sub_group=_elements(zero, "sub_group_size", _SUB_GROUP),
    )


def deepspeed_settings(launch: Launch, precision: str) -> dict[str, Any]:
    """The DeepSpeed configuration as accelerate hands it on.

    Raises:
        ConfigError: accelerate or DeepSpeed refuses the file.
    """
    from accelerate.utils import DeepSpeedPlugin, patch_environment

    where = launch.environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "the launch")
    try:
        with patch_environment(**_accelerates(launch)):
            plugin = DeepSpeedPlugin()
            plugin.set_mixed_precision(precision)
            settings: dict[str, Any] = copy.deepcopy(plugin.deepspeed_config)
        zero = settings.get("zero_optimization", {})
        if importlib.util.find_spec("deepspeed") is not None:
            from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

            DeepSpeedZeroConfig(**{key: value for key, value in zero.items() if value != "auto"})
    except Exception as error:
        raise ConfigError(f"DeepSpeed's configuration ({where}) is refused: {error}") from error
    return settings


def _accelerates(launch: Launch) -> dict[str, str]:
    return {name: value for name, value in launch.environment.items() if name.startswith("ACCELERATE_")}


def _offloaded(zero: Mapping[str, Any], key: str) -> bool:
    return (zero.get(key) or {}).get("device", "none") not in ("none", None)


def _elements(zero: Mapping[str, Any], key: str, default: int) -> int:
    value = zero.get(key, "auto")
    return default if value == "auto" else int(float(value))
