"""The engine that samples with vLLM in this process, and what runs inside of vLLM."""

from masa.earlier_names import names_of

__getattr__ = names_of(__name__, "masa.rollout.vllm.engine")
