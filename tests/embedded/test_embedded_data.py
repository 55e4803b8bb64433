"""The shipped tokenizer and policy: they load offline, encode any text and show the documented properties."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.embedded import (
    DATA_DIRECTORY,
    META_TEMPLATE,
    SOLUTION_TEMPLATE,
    arithmetic_problems,
    load_embedded_policy,
    load_embedded_tokenizer,
)
from masa.embedded.measure import sample_problems, summarize
from masa.embedded.solutions import ROUNDING, RUNNING_TOTAL

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def tokenizer():
    return load_embedded_tokenizer()


@pytest.fixture(scope="module")
def properties():
    return json.loads((DATA_DIRECTORY / "properties.json").read_text())


@pytest.fixture(scope="module")
def policy():
    return load_embedded_policy()


def test_importing_the_room_imports_neither_torch_nor_transformers():
    code = "import sys, masa.embedded; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@settings(deadline=None)
@given(text=st.text())
def test_any_text_survives_encoding_and_decoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["🧮🏽‍♀️ naïve Ω", "\x00\ufffd\u200b", "a  b \n\t\r\n ", "12345", "<|end|> and <|pad|>", "人工"]
)
def test_unusual_texts_survive_encoding_and_decoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_lone_surrogate_is_refused_since_it_is_no_text(tokenizer):
    with pytest.raises((UnicodeEncodeError, TypeError)):
        tokenizer.encode("a\ud800b")


def test_every_digit_is_a_token_of_its_own(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a=3746")) == ["a", "=", "3", "7", "4", "6"]


def test_the_chat_template_frames_each_message_and_opens_the_reply(tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"
    assert tokenizer.eos_token == "<|end|>"


def test_prompts_are_at_most_forty_tokens(tokenizer):
    for problem in arithmetic_problems("test"):
        for template in (SOLUTION_TEMPLATE, META_TEMPLATE):
            message = [{"role": "user", "content": template.replace("{{ problem }}", problem.statement)}]
            assert len(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)) <= 40


def test_the_policy_is_a_small_qwen3_with_a_file_of_at_most_four_megabytes(policy, properties):
    assert (DATA_DIRECTORY / "model.safetensors").stat().st_size <= 4 * MEGABYTE
    assert type(policy).__name__ == "Qwen3ForCausalLM"
    assert sum(p.numel() for p in policy.parameters()) == properties["parameters"]
    assert 500_000 <= properties["parameters"] <= 3_000_000


def test_properties_name_seed_command_and_versions(properties):
    assert properties["command"] == f"python -m masa.embedded.build --seed {properties['seed']}"
    assert {"python", "torch", "transformers", "tokenizers"} <= set(properties["versions"])


def test_the_documented_properties_are_what_the_method_feeds_on(properties):
    measured = properties["measured"]
    assert 0.25 <= measured["share_trivial"] + measured["share_out_of_reach"] <= 0.45
    assert min(measured["pass_rate_histogram"].values()) >= 0.05
    assert measured["length_wrong_minus_correct_same_problem"] > 3
    assert measured["methods"][RUNNING_TOTAL.name]["success"] > measured["methods"][ROUNDING.name]["success"] + 0.15
    assert measured["metas_complete"] > 0.95


def test_a_small_sample_agrees_with_the_documented_properties(policy, tokenizer, properties):
    documented = properties["measured"]
    found = _measure(policy, tokenizer, count=40, num_solutions=8)
    assert found["pass_at_1"] == pytest.approx(documented["pass_at_1"], abs=0.12)
    assert found["share_trivial"] > 0.02
    assert found["share_out_of_reach"] > 0.05
    assert found["length_wrong"] > found["length_correct"]
    assert found["methods"][RUNNING_TOTAL.name]["success"] > found["methods"][ROUNDING.name]["success"]
    assert found["r_length"] == pytest.approx(documented["r_length"], abs=0.1)
    assert found["r_difficulty"] == pytest.approx(documented["r_difficulty"], abs=0.1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_rebuild_gives_the_same_tokenizer_and_nearly_the_same_properties(tmp_path, properties):
    from masa.embedded.build import build

    rebuilt = build(tmp_path, properties["seed"])
    assert (tmp_path / "tokenizer.json").read_text() == (DATA_DIRECTORY / "tokenizer.json").read_text()
    old, new = properties["measured"], rebuilt["measured"]
    assert new["pass_at_1"] == pytest.approx(old["pass_at_1"], abs=0.08)
    assert new["share_trivial"] + new["share_out_of_reach"] == pytest.approx(
        old["share_trivial"] + old["share_out_of_reach"], abs=0.12
    )
    assert new["length_correct"] == pytest.approx(old["length_correct"], rel=0.1)
    for name, method in old["methods"].items():
        assert new["methods"][name]["share"] == pytest.approx(method["share"], abs=0.1)
        assert new["methods"][name]["success"] == pytest.approx(method["success"], abs=0.12)
    for reward in ("r_length", "r_difficulty", "r_notion"):
        assert new[reward] == pytest.approx(old[reward], abs=0.06)


def _measure(policy, tokenizer, count, num_solutions):
    from masa.rollout.transformers.engine import TransformersEngine

    engine = TransformersEngine(policy, stop_ids=[tokenizer.eos_token_id])
    problems = arithmetic_problems("test", count)
    return summarize(sample_problems(problems, engine, tokenizer, num_solutions=num_solutions, num_metas=8, seed=1))
