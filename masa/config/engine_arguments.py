"""Arguments for vLLM's engine that no option of ours stands for."""

from __future__ import annotations

from typing import Any

# What other options say, by vLLM's name.
_SAID_BY = {
    "dtype": "rollout.dtype",
    "enable_sleep_mode": "rollout.sleep_level",
    "enforce_eager": "rollout.enforce_eager",
    "gpu_memory_utilization": "rollout.gpu_memory_utilization",
    "kv_cache_memory_bytes": "rollout.kv_cache_gb",
    "max_model_len": "rollout.max_model_len",
    "max_num_seqs": "rollout.max_batch_size",
    "model": "model.path",
    "tensor_parallel_size": "rollout.tensor_parallel_size",
    "tokenizer": "model.path",
    "trust_remote_code": "model.trust_remote_code",
}
# What a run sets so that rollouts follow the policy, are repeatable, and can be given new weights.
_FIXED = frozenset(
    {
        "distributed_executor_backend",
        "enable_lora",
        "enable_prefix_caching",
        "generation_config",
        "load_format",
        "logprobs_mode",
        "max_logprobs",
        "max_lora_rank",
        "max_loras",
        "seed",
        "skip_tokenizer_init",
        "worker_cls",
        "worker_extension_cls",
    }
)
# With these the engine computes another distribution than the policy's.
_INEXACT = frozenset(
    {
        "calculate_kv_scales",
        "hf_overrides",
        "kv_cache_dtype",
        "logits_processors",
        "override_generation_config",
        "quantization",
        "rope_parameters",
        "speculative_config",
    }
)


def require_exact_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments themselves, with underscores in their names.

    Raises:
        ValueError: one that another option sets, that a run needs as it is, or that samples from another distribution.
    """
    found = {name.replace("-", "_"): value for name, value in arguments.items()}
    for name in found:
        if name in _SAID_BY:
            raise ValueError(f"found {name}, which {_SAID_BY[name]} says")
        if name in _FIXED:
            raise ValueError(f"found {name}, not allowed: a run sets it itself, as its rollouts need it")
        if name in _INEXACT:
            raise ValueError(
                f"found {name}, not allowed: the engine would sample from another distribution than the policy's"
            )
    return found
