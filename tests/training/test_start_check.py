"""What computes log-probabilities in another way than the rest of a run is found before the first step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import QUICKSTART
from tiny import tiny_folder, tiny_model

from masa.config import ConfigError, load_config
from masa.config.schema import LoraSection, ModelSection, RolloutSection
from masa.model.loading import prepare_policy
from masa.policy.batching.collate import TokenBatch
from masa.policy.batching.shared_prompts import can_share_prompts
from masa.policy.forward.head import LogitTransform
from masa.policy.forward.opening import open_policy
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.algorithm import resolve_algorithm
from masa.preflight import prepare
from masa.rollout.engine import RolloutRequest, Sampling
from masa.rollout.factory import make_engine
from masa.rollout.weights.agreement import deciding_size, tolerance
from masa.session import Session
from masa.start_check import Places, check_layouts, check_start

_PROMPTS = [tuple(range(3, 3 + length)) for length in (5, 24)]
_REQUESTS = [RolloutRequest(f"{len(one)}", "solution", one, (len(one),), 8, Sampling()) for one in _PROMPTS]


def _places(model: Any, *layouts: str, sampled: Any = None) -> tuple[Places, PolicyModule]:
    module = PolicyModule(model, temperature=1.0)
    engine = make_engine(RolloutSection(engine="transformers"), sampled or model, stop_ids=[1])
    places = Places(
        model=model,
        forward=lambda batch: module(batch, False)[0],
        engine=engine,
        layouts=layouts,
    )
    return places, module


def _check(places: Places, requests: Sequence[RolloutRequest] = _REQUESTS) -> dict[str, str]:
    return check_start(places, requests, 1.0)


@pytest.mark.parametrize("family", ["gemma2", "qwen3", "glm4_moe"])
def test_a_model_that_is_the_same_in_all_places_passes(family: str) -> None:
    places, _ = _places(tiny_model(family, attention="eager").eval())
    assert _check(places) == {}


def test_a_soft_cap_that_the_update_lacks_is_found() -> None:
    places, module = _places(tiny_model("gemma2", attention="eager", final_logit_softcapping=2.0).eval())
    assert module.transform.softcap is not None
    module.transform = LogitTransform()
    with pytest.raises(ConfigError, match=r"Gemma2ForCausalLM: the policy update's log-probs are up to .* nats from"):
        _check(places)


def test_a_soft_cap_that_the_engine_lacks_is_found() -> None:
    capped = tiny_model("gemma2", attention="eager", final_logit_softcapping=2.0).eval()
    uncapped = copy.deepcopy(capped)
    uncapped.config.final_logit_softcapping = None
    places, _ = _places(capped, sampled=uncapped)
    with pytest.raises(ConfigError, match=r"the engine's log-probs of its own samples are up to .* nats from"):
        _check(places)


def test_a_soft_cap_that_the_models_own_logits_lack_is_found() -> None:
    model = tiny_model("gemma2", attention="eager", final_logit_softcapping=2.0).eval()
    places, module = _places(model, sampled=copy.deepcopy(model))
    assert module.transform.softcap is not None
    model.config.final_logit_softcapping = None
    with pytest.raises(
        ConfigError, match=r"the policy update's log-probs are up to .* nats from the model's own logits"
    ):
        _check(places)


def test_a_buffer_that_is_stale_in_the_engine_is_found() -> None:
    model = tiny_model("glm4_moe", attention="eager").eval()
    stale = copy.deepcopy(model)
    changed = 0
    for name, buffer in stale.named_buffers():
        if "e_score_correction_bias" in name:
            buffer.copy_(torch.arange(len(buffer)).flip(0) * 5.0)
            changed += 1
    assert changed
    places, _ = _places(model, sampled=stale)
    with pytest.raises(ConfigError, match="the engine's log-probs of its own samples"):
        _check(places)


def test_packed_rows_that_see_one_another_are_not_used() -> None:
    model = tiny_model("qwen3", attention="sdpa").eval()
    places, module = _places(model, "packed")
    assert _check(places) == {}

    def mixed(batch: TokenBatch) -> torch.Tensor:
        """Positions that run on from row to row: every row sees those before it."""
        if batch.attention_mask is None and batch.shared_prompts is None:
            whole = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)[None]
            batch = replace(batch, position_ids=whole)
        logprobs: torch.Tensor = module(batch, False)[0]
        return logprobs

    unused = _check(replace(places, forward=mixed))
    assert set(unused) == {"packed"}
    assert unused["packed"].startswith(
        "optimizer.packing: not used with Qwen3ForCausalLM: log-probs of packed rows are"
    )


@pytest.mark.parametrize("check", [_check, lambda places: check_layouts(places, _REQUESTS)], ids=["whole", "layouts"])
@pytest.mark.parametrize(
    ("family", "packs"),
    # Learned positions: OPT counts its own, whatever it is given, GPT-2 takes those of the packed rows.
    [("opt", False), ("gpt2", True), ("bloom", False), ("falcon", False), ("qwen3_5_text", False), ("lfm2", False)],
)
def test_rows_are_packed_only_where_the_model_keeps_them_apart(family: str, packs: bool, check: Any) -> None:
    places, _ = _places(tiny_model(family), "packed")
    unused = check(places)
    assert set(unused) == (set() if packs else {"packed"})
    if not packs:
        assert unused["packed"].startswith(f"optimizer.packing: not used with {type(places.model).__name__}")


def test_a_layout_that_a_model_cannot_compute_is_not_used() -> None:
    model = tiny_model("stablelm")
    assert can_share_prompts(model)
    places, _ = _places(model, "shared")
    (line,) = _check(places).values()
    assert line.startswith("optimizer.share_prompts: not used with StableLmForCausalLM")


def test_a_run_without_the_check_still_packs_only_rows_that_stay_apart(tmp_path: Path) -> None:
    folder = tiny_folder("opt", tmp_path / "model", max_position_embeddings=512)
    options = ("optimizer.packing=on", "rollout.check_at_start=false", "run.threads=1")
    config = load_config(QUICKSTART, [*options, f"model.path={folder}", f"run.dir={tmp_path}", "problems.limit=32"])
    prepared = prepare(config)
    with Session(config, resolve_algorithm(config.algorithm), prepared, 1) as session:
        assert session.updater.layouts == ("packed",)
        lines = session.check_at_start()
        assert session.updater.layouts == ()
    assert any(line.startswith("optimizer.packing: not used with OPTForCausalLM") for line in lines)


def test_what_takes_the_place_of_packed_rows_is_compared_as_well(tmp_path: Path) -> None:
    folder = tiny_folder("falcon", tmp_path / "model", max_position_embeddings=512)
    options = ("optimizer.packing=on", "optimizer.share_prompts=on", "run.threads=1", "problems.limit=32")
    config = load_config(QUICKSTART, [*options, f"model.path={folder}", f"run.dir={tmp_path}"])
    with Session(config, resolve_algorithm(config.algorithm), prepare(config), 1) as session:
        lines = session.check_at_start()
        assert session.updater.layouts == ()
    assert [line.partition(":")[0] for line in lines if "not used" in line] == [
        "optimizer.packing",
        "optimizer.share_prompts",
    ]


def test_what_a_checkpoint_would_not_keep_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import masa.start_check as start_check

    def incomplete(folder: Any, model: Any) -> None:
        changed = copy.deepcopy(model)
        changed.get_output_embeddings().weight.data.mul_(0.5)
        changed.save_pretrained(folder)

    monkeypatch.setattr(start_check, "write_policy", incomplete)
    places, _ = _places(tiny_model("qwen3").eval())
    with pytest.raises(ConfigError, match=r"log-probs of a checkpoint, loaded again, are up to .* nats"):
        _check(places)


def test_adapters_that_a_checkpoint_merges_otherwise_are_found_before_they_have_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("peft", reason="needs peft (the extra lora)")
    import masa.model.weights as weights

    model = prepare_policy(tiny_model("qwen3_moe"), ModelSection(lora=LoraSection(rank=2)))
    adapters = {name: one.clone() for name, one in model.named_parameters() if "lora_" in name}
    places, _ = _places(model)
    assert _check(places) == {}
    assert all(torch.equal(one, adapters[name]) for name, one in model.named_parameters() if name in adapters)

    merged = weights._adapter_change
    monkeypatch.setattr(weights, "_adapter_change", lambda layer: 0.5 * merged(layer))
    with pytest.raises(ConfigError, match=r"log-probs of a checkpoint, loaded again, are up to .* nats"):
        _check(places)


def test_adapters_of_layers_that_are_read_without_being_called_stay_as_they_are() -> None:
    pytest.importorskip("peft", reason="needs peft (the extra lora)")
    section = ModelSection(lora=LoraSection(rank=2))
    model = prepare_policy(tiny_model("longcat_flash"), section)
    module, notes = open_policy(model, section, temperature=1.0)
    assert any("classifier.lora_A" in line for line in notes)
    places = replace(_places(model)[0], forward=lambda batch: module(batch, False)[0])
    assert _check(places) == {}


def test_a_checkpoint_that_transformers_has_no_way_to_load_is_refused_by_name() -> None:
    places, _ = _places(tiny_model("emu3"))
    with pytest.raises(ConfigError, match="a checkpoint of Emu3ForCausalLM has the configuration Emu3TextConfig"):
        _check(places)


_LARGE = [RolloutRequest(f"{n}", "solution", tuple(range(5, 5 + n)), (n, n + 1), 24, Sampling()) for n in (4, 9, 30)]


def _with_large_logits(family: str) -> Any:
    """As large as those of trained models: their rounding is as much larger."""
    model = tiny_model(family).eval()
    model.get_output_embeddings().weight.data.mul_(8)
    return model


def test_the_rounding_of_large_logits_is_no_disagreement() -> None:
    # Qwen3-Next decodes token by token and is trained in chunks: 1.1e-4 nats apart at logits of 39, of which 1.4e-4 and
    # 3e-5 from the same in float64.
    places, _ = _places(_with_large_logits("qwen3_next"))
    assert _check(places, _LARGE) == {}


def test_a_small_mistake_beside_large_logits_is_found() -> None:
    model = _with_large_logits("qwen3_next")
    stale = copy.deepcopy(model)
    stale.model.norm.weight.data.mul_(1.001)
    places, _ = _places(model, sampled=stale)
    with pytest.raises(ConfigError, match="the engine's log-probs of its own samples"):
        _check(places, _LARGE)


def test_tolerances_grow_with_logits_beyond_the_size_they_were_measured_at() -> None:
    assert tolerance([torch.float32], 5.0) == tolerance([torch.float32]) == 1e-4
    assert tolerance([torch.float32], 40.0) == pytest.approx(2e-4)
    assert tolerance([torch.bfloat16], 40.0) == 0.5 < tolerance([torch.bfloat16], 80.0)
    assert tolerance([torch.float32, torch.bfloat16], 20.0) == 0.5


def test_masked_and_infinite_logits_leave_the_tolerance_as_it_is() -> None:
    masked = torch.tensor([[1.0, 2.0, torch.finfo(torch.float32).min]])
    assert deciding_size(masked, torch.tensor([0])) == 2.0
    for wrong in (torch.inf, torch.nan):
        assert deciding_size(torch.tensor([[1.0, wrong]]), torch.tensor([0])) == 0.0


def test_random_states_are_those_of_before() -> None:
    places, _ = _places(tiny_model("qwen3").eval())
    before = torch.get_rng_state()
    _check(places)
    assert torch.get_rng_state().equal(before)
