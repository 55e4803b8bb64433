"""The options of rollouts: engines, sampling, servers (docs/rollout.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from masa.config.engine_arguments import require_exact_arguments
from masa.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section

StopText = Annotated[str, StringConstraints(min_length=1)]


class RolloutSection(Section):
    """How responses are sampled."""

    engine: Literal["auto", "transformers", "vllm", "vllm_server"] = "auto"
    """`transformers` and `vllm` sample in this process, `vllm_server` over HTTP; `auto`: `vllm_server` where `servers`
    are named, `vllm` where there is a GPU and vLLM is installed, else `transformers`."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Sampling temperature; the policy's log-probs are taken at the same one."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the probability that the tokens to sample from add up to; below 1 rollouts no longer follow the
    policy itself."""
    top_k: NonNegativeInt = 0
    """Sample from the k most probable tokens only; 0: from all of them."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Sample only from tokens whose probability is at least this share of the most probable token's; 0: from all of
    them."""
    max_solution_tokens: PositiveInt = 8192
    """Response limit of a solution, in tokens."""
    max_meta_tokens: PositiveInt = 2048
    """Response limit of a meta-prediction, in tokens."""
    stop_token_ids: list[NonNegativeInt] = Field(default_factory=list)
    """Token ids that end a response, in addition to those that tokenizer, generation config and chat template name."""
    stop: list[StopText] = Field(default_factory=list)
    """Texts that end a response, solution or meta-prediction: it ends with the token that completes one of them, and
    that token and the text stay part of it."""
    max_batch_size: PositiveInt = 256
    """Sequences decoded at a time by one engine or server."""
    max_model_len: PositiveInt | None = None
    """vLLM: longest prompt and response together, in tokens; null: prompts.max_tokens, the larger response limit
    and 512 tokens for hints, but no more than the positions that the model has."""
    dtype: Literal["policy", "float32", "bfloat16"] = "policy"
    """The type that responses are sampled in; `policy`: that of the policy's parameters. With any other type rollouts
    follow another distribution than the policy's, which requires `algorithm.tis_cap` or `algorithm.correction`. The
    engine `transformers` can do this on a CPU with AVX512_BF16: `bfloat16` then holds for all linear layers but the
    head."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.45
    """vLLM: share of a GPU's memory for weights and KV cache."""
    kv_cache_gb: PositiveFloat | None = None
    """vLLM: size of the KV cache in GB; null: what `gpu_memory_utilization` leaves, 1 without a GPU."""
    tensor_parallel_size: PositiveInt = 1
    """vLLM: GPUs that share one engine; with `vllm`, that many neighbouring processes of the run share one."""
    enforce_eager: bool = False
    """vLLM: no CUDA graphs; starts faster, samples slower. Always on without a GPU."""
    sleep_level: Annotated[int, Field(ge=0, le=2)] = 0
    """What the engine `vllm` does with its memory during the update: 0 keeps it, 1 drops the KV cache and moves the
    weights to the CPU, 2 drops both."""
    async_steps: Annotated[int, Field(ge=0, le=8)] = 0
    """Sample this many steps ahead while the policy is updated: rollouts are that many updates old, and so is what the
    controls decide by. Requires `algorithm.tis_cap` or `algorithm.correction`. 0: on-policy."""
    partial: bool = False
    """Partial rollouts: a step does not wait for its last problems. What they have so far is put aside, and goes on in
    the next step under the newer weights. Requires `algorithm.tis_cap` or `algorithm.correction`; for the engines in
    this process, without controls that decide about solutions and without dynamic sampling."""
    partial_share: Annotated[float, Field(ge=0.5, lt=1)] = 0.6
    """`partial`: the share of the problems in flight whose solutions and meta-predictions have all ended when a step
    ends. `algorithm.num_problems` are trained on, so that many divided by this share are in flight."""
    partial_max_age: PositiveInt = 2
    """`partial`: a problem is trained on at most so many steps after the one that began it; that step waits for it."""
    check_at_start: bool = True
    """Before the first step, prove on prompts of this run that the model's own logits, the update, the engine and a
    checkpoint give the same log-probs. A row layout (packing, shared prompts) that fails is switched off; any other
    difference ends the run. False: only the row layouts are compared."""
    check_every: NonNegativeInt = 0
    """Number of steps between proofs that engine and policy agree, by checksum and log-probs of long prompts; 0:
    none."""
    servers: list[str] = Field(default_factory=list)
    """`vllm_server`: addresses of running servers, such as `http://host:8000`; empty: `num_servers` are started."""
    num_servers: PositiveInt = 1
    """`vllm_server`: servers to start on this machine where `servers` is empty."""
    server_devices: list[str] = Field(default_factory=list)
    """`CUDA_VISIBLE_DEVICES` of each started server; empty: those of the run."""
    server_wait: PositiveFloat = 300.0
    """Seconds without any usable server, and for a server to start or to take weights, before the run stops."""
    server_patience: PositiveFloat = 30.0
    """Seconds a server may be silent before it counts as dead and its requests go to the others."""
    lora: Literal["auto", "adapter", "merged"] = "auto"
    """With `model.lora.rank`, what engines are given: `adapter`: the base model once, then adapters alone; `merged`:
    all weights after every step, adapters merged into them; `auto`: adapters where the engine can."""
    weight_transfer: Literal["auto", "file", "nccl"] = "auto"
    """How servers get weights; `auto`: `nccl` where there are GPUs that servers have for themselves, else `file`."""
    transfer_folder: str | None = None
    """Folder that the run and its servers both see, for `file`; null: a temporary one."""
    bucket_mb: PositiveInt = 512
    """Size in MB of the parts in which weights are sent to servers."""
    engine_arguments: Annotated[dict[str, Any], AfterValidator(require_exact_arguments)] = Field(default_factory=dict)
    """vLLM: further arguments of its engine, such as `{max_num_batched_tokens: 16384}`, for the engine in process and
    for servers that the run starts. Arguments that another option sets, or with which it would sample from another
    distribution than the policy's, are refused."""

    @property
    def draws_from_all_tokens(self) -> bool:
        """Whether samples come from the policy's whole distribution, nothing cut away by top-p, top-k or min-p."""
        return self.top_p == 1.0 and self.top_k == 0 and self.min_p == 0.0

    @model_validator(mode="after")
    def _asynchrony_fits(self) -> RolloutSection:
        if self.async_steps and self.sleep_level:
            raise ValueError("async_steps and sleep_level exclude each other: an engine that samples cannot sleep")
        in_process = self.engine == "vllm" or (self.engine == "auto" and not self.servers)
        if self.async_steps and in_process and self.tensor_parallel_size > 1:
            raise ValueError("async_steps needs engine=vllm_server where tensor_parallel_size is over 1")
        return self

    @model_validator(mode="after")
    def _partial_fits(self) -> RolloutSection:
        if not self.partial:
            return self
        if self.engine == "vllm_server" or (self.engine == "auto" and self.servers):
            raise ValueError(
                "partial needs an engine in this process (transformers, vllm): a server says nothing of a response "
                "before it has ended, and what ends first there is a matter of the clock"
            )
        if self.tensor_parallel_size > 1:
            raise ValueError(
                f"partial needs tensor_parallel_size=1, found {self.tensor_parallel_size}: processes that share an "
                "engine sample in rounds, each of them to its end"
            )
        return self
