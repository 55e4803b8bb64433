"""Arguments for vLLM's engine that no option stands for."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from masa.config import ConfigError, load_config
from masa.embedded import DATA_DIRECTORY
from masa.rollout.factory import make_engine
from masa.rollout.vllm.arguments import command_line, vllm_arguments
from masa.rollout.vllm.process import require_known_arguments


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(DATA_DIRECTORY)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("max_model_len: 100", "found max_model_len, which rollout.max_model_len says"),
        ("max-num-seqs: 4", "found max_num_seqs, which rollout.max_batch_size says"),
        ("seed: 3", "found seed, not allowed: a run sets it itself"),
        ("logprobs_mode: raw_logprobs", "found logprobs_mode, not allowed"),
        ("quantization: fp8", "found quantization, .* another distribution than the policy's"),
        ("kv_cache_dtype: fp8", "found kv_cache_dtype, .* another distribution"),
    ],
)
def test_what_an_option_says_and_what_breaks_exactness_is_refused_with_the_configuration(
    argument: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, [f"rollout.engine_arguments={{{argument}}}"])


def test_an_argument_reaches_engines_and_servers(model: torch.nn.Module, tmp_path: Path) -> None:
    options = ["rollout.engine=vllm", "rollout.engine_arguments={max-num-batched-tokens: 16384, block_size: 32}"]
    section = load_config(None, options).rollout
    found = vllm_arguments(model, section, 64, tmp_path, True)
    # What we would say ourselves on a CPU gives way.
    assert (found["max_num_batched_tokens"], found["block_size"]) == (16384, 32)
    line = command_line(found)
    assert line[line.index("--max-num-batched-tokens") + 1] == "16384"


def test_an_argument_that_vllm_does_not_have_is_named_with_those_near_to_it() -> None:
    require_known_arguments({"block_size": 32}, {"block_size", "seed"})
    with pytest.raises(ConfigError, match=r"found 'blocksize', which .* does not have; similar names: block_size"):
        require_known_arguments({"blocksize": 32}, {"block_size", "seed"})


def test_the_engine_of_transformers_takes_none(model: torch.nn.Module) -> None:
    section = load_config(None, ["rollout.engine=transformers", "rollout.engine_arguments={block_size: 32}"]).rollout
    with pytest.raises(ConfigError, match="found block_size, allowed with the engine transformers: none"):
        make_engine(section, model, stop_ids=[1])
