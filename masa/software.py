"""What a run needs to have installed, found out before a model is loaded, by the checks of the rooms that use it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from masa.config import Config, ConfigError


def require_software(config: Config, *, on_gpu: bool | None = None, model_given: bool = False) -> None:
    """Everything that the configuration and the launch at work ask for must be installed.

    Args:
        on_gpu: whether the run computes on a GPU; None: as it is here.
        model_given: the model was handed in, so its attention is as it is.

    Raises:
        ConfigError: something is not, and nothing else may take its place.
    """
    for check in _checks(config, on_gpu, model_given):
        check()


def missing_software(config: Config) -> list[str]:
    """What `require_software` would say on a machine with a GPU that has what is installed here."""
    found = []
    for check in _checks(config, True, False):
        try:
            check()
        except ConfigError as error:
            found.append(str(error))
    return found


def _checks(config: Config, on_gpu: bool | None, model_given: bool) -> list[Callable[[], None]]:
    import torch

    from masa.distributed.processes import require_deepspeed
    from masa.model.gguf import require_gguf
    from masa.model.loading import require_attention
    from masa.model.lora import require_peft
    from masa.policy.forward.liger import require_liger_kernel
    from masa.rewards.notions import require_lemmatizer
    from masa.rollout.factory import choose_engine
    from masa.rollout.vllm.engine import require_vllm, require_wakeful

    model, rollout = config.model, config.rollout
    gpu = torch.cuda.is_available() if on_gpu is None else on_gpu
    checks: list[Callable[[], None]] = [require_deepspeed, partial(require_peft, model.lora)]
    checks.append(partial(require_lemmatizer, config.rewards.notion_match))
    checks.append(partial(require_liger_kernel, model.liger_kernel, on_gpu=gpu))
    if not model_given:
        checks.append(partial(require_attention, model, on_gpu=gpu))
        checks.append(partial(require_gguf, model.path))
    engine = choose_engine(rollout, on_gpu=gpu)
    if engine == "vllm" or (engine == "vllm_server" and not rollout.servers):
        checks.append(partial(require_vllm, rollout))
    if engine == "vllm":
        checks.append(partial(require_wakeful, rollout, on_gpu=gpu))
    return checks
