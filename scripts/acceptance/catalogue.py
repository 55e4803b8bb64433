"""What there is to try, in which order, what each part needs and how long it may take. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

# What a whole run imports, under the names that are imported (and, where these differ, installed).
_RUN = ("torch", "transformers", "accelerate", "pydantic", "yaml", "numpy", "safetensors", "psutil", "scipy", "jinja2")
_WHOLE_RUN = (*_RUN, "rich", "pebble")
_INSTALLED_AS = {"yaml": "PyYAML", "liger_kernel": "liger-kernel"}


class ArgumentError(ValueError):
    """The command line asks for what there is not."""


@dataclass(frozen=True)
class Part:
    """One thing to try.

    ``run`` is ``module:function``; ``limit`` is the most seconds it may take, ``expected`` the seconds
    that must be left for it to be begun. ``packages`` are import names. ``gpus`` is how many it needs: with 0 it is
    rehearsed on the CPU where there is none.
    """

    name: str
    what: str
    run: str
    expected: float
    limit: float
    packages: tuple[str, ...] = _RUN
    gpus: int = 0

    def missing(self, installed: frozenset[str], gpus: int) -> str:
        """What the part needs and this machine lacks, for a message; empty where there is all."""
        packages = [_INSTALLED_AS.get(name, name) for name in self.packages if name not in installed]
        lacks = [f"not installed: {', '.join(packages)}"] if packages else []
        if gpus < self.gpus:
            lacks.append("no GPU" if self.gpus == 1 else f"{self.gpus} GPUs needed, found {gpus}")
        return "; ".join(lacks)


PARTS = (
    Part(
        "logprobs",
        "memory of chunked log-probs against whole logits, 151,936 words",
        "acceptance.update:chunked_logprobs_memory",
        10,
        90,
        ("torch", "pydantic", "yaml"),
    ),
    Part("quickstart", "three steps of configs/quickstart.yaml", "acceptance.runs:quickstart", 15, 120, _WHOLE_RUN),
    Part(
        "agreement",
        "log-probs of padded and packed rows against the model's logits",
        "acceptance.update:agreement",
        10,
        90,
    ),
    Part("update_padded", "bf16 update of Qwen3-0.6B's shape, padded rows", "acceptance.update:padded", 15, 120),
    Part(
        "update_packed", "the same, packed, with flash or flex attention", "acceptance.update:packed", 20, 150, gpus=1
    ),
    Part("update_checkpointed", "the same, padded, activations recomputed", "acceptance.update:checkpointed", 15, 120),
    Part(
        "liger",
        "Liger kernels against the model's own",
        "acceptance.update:liger",
        15,
        120,
        (*_RUN, "liger_kernel"),
        gpus=1,
    ),
    Part("engine", "sampling with the transformers engine", "acceptance.engines:transformers_engine", 20, 120),
    Part(
        "resume", "kill -9 after a checkpoint, resume, equal bit for bit", "acceptance.runs:resume", 30, 150, _WHOLE_RUN
    ),
    Part("nccl", "NCCL in one process", "acceptance.engines:nccl", 5, 60, ("torch",), gpus=1),
    Part(
        "zero2",
        "ZeRO 2 by accelerate launch: a run, and an update of the 0.6B shape",
        "acceptance.runs:zero2",
        30,
        180,
        (*_WHOLE_RUN, "deepspeed"),
    ),
    Part("zero3", "the same with ZeRO 3", "acceptance.runs:zero3", 30, 180, (*_WHOLE_RUN, "deepspeed")),
    Part("vllm_sleep0", "vLLM in process, always awake", "acceptance.engines:vllm_sleep0", 40, 240, (*_RUN, "vllm")),
    Part(
        "vllm_sleep1",
        "vLLM in process, sleep level 1",
        "acceptance.engines:vllm_sleep1",
        40,
        240,
        (*_RUN, "vllm"),
        gpus=1,
    ),
    Part(
        "vllm_sleep2",
        "vLLM in process, sleep level 2",
        "acceptance.engines:vllm_sleep2",
        40,
        240,
        (*_RUN, "vllm"),
        gpus=1,
    ),
    Part("server", "a vLLM server, weights through files", "acceptance.engines:server_files", 40, 240, (*_RUN, "vllm")),
    Part(
        "server_nccl",
        "a vLLM server, weights by NCCL",
        "acceptance.engines:server_nccl",
        40,
        240,
        (*_RUN, "vllm"),
        gpus=2,
    ),
)


def select(names: str | None) -> list[Part]:
    """The parts named in a comma-separated list, in the catalogue's order; all where there is none.

    Raises:
        ArgumentError: a name that is no part's.
    """
    if names is None:
        return list(PARTS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [part.name for part in PARTS]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ArgumentError(f"--parts: found {', '.join(unknown) or 'nothing'}, allowed: {', '.join(known)}")
    return [part for part in PARTS if part.name in wanted]
