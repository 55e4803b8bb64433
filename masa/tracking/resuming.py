"""What may differ between a run and its resumption."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from masa.config import Config, ConfigError, config_from_mapping, differing_keys
from masa.tracking.run_directory import RunDirectory

# A resumed run may be longer and may say more; any other difference would make it another run.
_FREE_TO_CHANGE = (
    "run.steps",
    "run.dir",
    "run.name",
    "run.callbacks",
    "checkpoint.",
    "tracking.",
    "hub.",
    "rewards.verifier_workers",
    # Where servers are and how long to wait for them: a run that lost its servers goes on with others.
    "rollout.servers",
    "rollout.server_devices",
    "rollout.server_wait",
    "rollout.server_patience",
    "rollout.num_servers",
    "rollout.transfer_folder",
    "rollout.gpu_memory_utilization",
    "rollout.kv_cache_gb",
    "rollout.sleep_level",
    "evaluation.every",
    "run.timeout_minutes",
    "run.stop_when",
)
# How the same arithmetic is cut into pieces, as memory and machines demand.
_CHANGES_ROUNDING = (
    "optimizer.micro_batch_tokens",
    "optimizer.packing",
    "optimizer.share_prompts",
    "model.gradient_checkpointing",
    "model.liger_kernel",
    "rollout.max_batch_size",
    "rollout.enforce_eager",
    "run.threads",
)


def refuse_another_run(directory: RunDirectory, config: Config, say: Callable[[str], None]) -> Config:
    """The configuration that the run in ``directory`` had; where only the rounding changed since, that is said.

    Raises:
        ConfigError: it differs from ``config`` in what makes it another run, or is none of this version.
    """
    before = config_from_mapping(yaml.safe_load(directory.config.read_text(encoding="utf-8")), str(directory.config))
    changed = {
        key: values for key, values in differing_keys(before, config).items() if not key.startswith(_FREE_TO_CHANGE)
    }
    rounding = [key for key in changed if key in _CHANGES_ROUNDING]
    if changed and len(rounding) == len(changed):
        say(f"{', '.join(rounding)} changed: the run continues, and differs from an uninterrupted one only by rounding")
    elif changed:
        lines = [f"{key}: the run has {old!r}, found {new!r}" for key, (old, new) in changed.items()]
        raise ConfigError(
            f"{directory.path} cannot be resumed with another configuration:\n"
            + "\n".join(lines)
            + "\nGive the options that the run was started with, or choose another run.dir. Allowed to change: "
            + ", ".join(name.rstrip(".") for name in (*_FREE_TO_CHANGE, *_CHANGES_ROUNDING))
        )
    return before


def refuse_fewer_steps(directory: RunDirectory, steps: int) -> None:
    """A resumed run adds to what is recorded; it does not take steps back.

    Raises:
        ConfigError: more than ``steps`` steps are recorded.
    """
    done = max((row["step"] for row in directory.read_metrics()), default=0)
    if done > steps:
        raise ConfigError(
            f"run.steps: found {steps}, but the run in {directory.path} has recorded {done} steps; "
            f"allowed with --resume: at least {done}"
        )
