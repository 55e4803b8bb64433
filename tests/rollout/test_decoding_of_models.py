"""What is sampled is what the model's own pass over the whole sequence says, whatever the model's layers remember."""

from typing import Any

import pytest
import torch
from small_policies import small_qwen3
from transformers import AutoConfig, AutoModelForCausalLM

from masa.config import ConfigError
from masa.config.schema import RolloutSection
from masa.rollout.engine import RolloutRequest
from masa.rollout.factory import make_engine
from masa.rollout.transformers.decode_probe import choose_decoder, trusted_decoder
from masa.rollout.transformers.decoders import GrowingDecoder, OwnCacheDecoder
from masa.rollout.transformers.engine import TransformersEngine

_SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEAD = {"head_dim": 16}
_LINEAR = {
    **_HEAD,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_WINDOWS = {**_HEAD, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "mixtral": {"sliding_window": 8, "num_local_experts": 4, "output_router_logits": True},
    "phi3": {"sliding_window": 8},
    "starcoder2": {"sliding_window": 8},
    "qwen3_moe": {**_HEAD, **_EXPERTS, "output_router_logits": True},
    "gemma2": {**_WINDOWS, "_attn": "eager"},
    "gemma3_text": _WINDOWS,
    "gpt_oss": {**_WINDOWS, "num_local_experts": 4, "num_experts_per_tok": 2, "_attn": "eager"},
    "qwen3_next": {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3_5_text": _LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**_HEAD, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16},
    "minimax": {**_HEAD, **_EXPERTS, "block_size": 8},
    "mamba": {"state_size": 8, "_attn": "eager"},
    "llama4_text": {
        **_HEAD,
        "attention_chunk_size": 8,
        "num_local_experts": 2,
        "intermediate_size_mlp": 64,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "gpt2": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "bloom": {"n_head": 4, "n_layer": 2, "_attn": "eager"},
    "gemma3": {
        "text_config": {**_SIZES, **_WINDOWS},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
    },
    "gemma4": {
        "text_config": {
            **_SIZES,
            **_WINDOWS,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "global_head_dim": 16,
        }
    },
}


def _model(kind: str) -> Any:
    changes = dict(_MODELS[kind])
    attention = changes.pop("_attn", "sdpa")
    sizes = {} if "text_config" in changes else _SIZES
    config = AutoConfig.for_model(kind, **{**sizes, **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.15)
    return model


def _farthest(model: Any, engine: Any) -> float:
    """Largest difference of log-probs between the samples of ``engine`` and whole passes, in nats."""
    requests = [
        RolloutRequest(str(place), "solution", tuple(range(5, 5 + length)), (place, place + 10, place + 20), 24 - place)
        for place, length in enumerate((4, 9, 30, 9))
    ]
    farthest = 0.0
    for rollout in (one for group in engine.generate(requests) for one in group):
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.token_ids]])
        with torch.no_grad():
            logprobs = model(input_ids=ids, use_cache=False).logits[0, len(rollout.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = logprobs.gather(1, torch.tensor(rollout.token_ids)[:, None])[:, 0]
        farthest = max(farthest, float((chosen - torch.tensor(rollout.logprobs)).abs().max()))
    return farthest


# Their cache cannot be shared out to the samples of a prompt.
_REFUSED = ("minimax",)


@pytest.mark.parametrize("kind", [one for one in _MODELS if one not in _REFUSED])
def test_log_probs_are_those_of_whole_passes_beyond_every_window(kind: str) -> None:
    model = _model(kind)
    assert _farthest(model, TransformersEngine(model, stop_ids=[2], max_batch_size=8)) < 1e-4


@pytest.mark.parametrize("kind", _REFUSED)
def test_models_whose_cache_cannot_be_divided_are_refused_by_name(kind: str) -> None:
    model = _model(kind)
    with pytest.raises(ConfigError, match=rf"rollout\.engine: found transformers with {type(model).__name__}"):
        make_engine(RolloutSection(engine="transformers"), model, stop_ids=[2])


def test_full_attention_is_decoded_the_fast_way_whether_it_is_checked_or_not() -> None:
    model = small_qwen3(initializer_range=0.3)
    for decoder in (trusted_decoder(model), choose_decoder(model)):
        assert isinstance(decoder, GrowingDecoder)
        assert decoder.four_dimensional


def test_windows_without_layer_types_keep_the_fast_cache_and_get_masks_of_the_model() -> None:
    decoder = choose_decoder(_model("mistral"))
    assert isinstance(decoder, GrowingDecoder)
    assert not decoder.four_dimensional


def test_other_memory_than_keys_and_values_is_the_models_own_cache() -> None:
    assert isinstance(choose_decoder(_model("lfm2")), OwnCacheDecoder)


def test_router_logits_are_asked_for_again_after_sampling() -> None:
    model = _model("mixtral")
    _farthest(model, TransformersEngine(model, stop_ids=[2]))
    assert model.config.output_router_logits is True


def test_a_model_that_no_cache_serves_is_refused_by_name_when_the_engine_is_made() -> None:
    model = _model("mistral")
    own = model.forward

    def forward(input_ids: Any, use_cache: bool = False, **arguments: Any) -> Any:
        outputs = own(input_ids=input_ids, use_cache=use_cache, **arguments)
        if use_cache:
            outputs.logits = outputs.logits * 0.9
        return outputs

    model.forward = forward
    with pytest.raises(ConfigError, match=r"rollout\.engine: found transformers with MistralForCausalLM"):
        make_engine(RolloutSection(engine="transformers"), model, stop_ids=[2])
