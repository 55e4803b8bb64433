"""A policy in a GGUF file is trained dequantised, and its checkpoints are ordinary folders."""

import json

import pytest
import torch
from small_run import QUICKSTART, SMALL
from transformers import AutoModelForCausalLM, AutoTokenizer

from masa.config import ConfigError, load_config
from masa.evaluation.running.checkpoint_model import checkpoint_dtype
from masa.model import gguf as gguf_rules
from masa.model.loading import load_policy, load_tokenizer, resolve_model_path
from masa.rollout.room import load_model_config
from masa.trainer import MASATrainer

NEEDS_GGUF = "the package gguf is not installed (extra gguf)"


def section(path):
    return load_config(None, [f"model.path={path}"]).model


def test_the_policy_has_the_dequantised_weights_of_the_file(tmp_path):
    pytest.importorskip("gguf", reason=NEEDS_GGUF)
    from gguf_files import END, write_gguf

    file = tmp_path / "tiny.gguf"
    written = write_gguf(file)

    model = load_policy(section(file))
    tokenizer = load_tokenizer(section(file))

    embeddings = torch.from_numpy(written["token_embd.weight"])
    torch.testing.assert_close(model.get_input_embeddings().weight.detach(), embeddings, rtol=0, atol=0)
    gate = model.get_parameter("model.layers.0.mlp.gate_proj.weight").detach()
    torch.testing.assert_close(gate, torch.from_numpy(written["blk.0.ffn_gate.weight"]), rtol=0, atol=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer.eos_token == END
    assert tokenizer.decode(tokenizer.encode("3 + 4 = 7")) == "3 + 4 = 7"
    assert load_model_config(section(file)).num_hidden_layers == 1
    assert checkpoint_dtype(section(file)) is None


def test_a_run_from_a_gguf_file_writes_checkpoints_that_load_without_it(tmp_path):
    pytest.importorskip("gguf", reason=NEEDS_GGUF)
    from gguf_files import write_gguf

    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    options = [
        *(f"model.path={file}", f"run.dir={tmp_path / 'run'}", "run.steps=2", "checkpoint.every=1"),
        *("rollout.max_solution_tokens=8", "rollout.max_meta_tokens=8", "rollout.engine=transformers"),
        *("prompts.chat=false", "prompts.max_tokens=256", "problems.limit=16", "evaluation.every=0"),
    ]
    first = MASATrainer(load_config(QUICKSTART, [*SMALL, *options])).train()
    file.rename(tmp_path / "elsewhere.gguf")

    folder = tmp_path / "run" / "checkpoints" / "step_000002"
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    assert first
    assert model.num_parameters() > 0
    assert tokenizer.decode(tokenizer.encode("12 - 5")) == "12 - 5"
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/model.gguf", ["no/such/model.gguf", "no file here", "owner/name:NAME.gguf"]),
        ("{folder}/words.gguf", ["is no GGUF file", "b'GGUF' is needed"]),
    ],
)
def test_a_path_that_is_no_gguf_file_is_refused_before_anything_is_loaded(tmp_path, path, words):
    (tmp_path / "words.gguf").write_text("some words")

    with pytest.raises(ConfigError) as caught:
        resolve_model_path(section(path.format(folder=tmp_path)))

    assert all(word in str(caught.value) for word in words)


def test_a_file_of_a_hub_repository_is_named_behind_its_id():
    named = gguf_rules.gguf_file("someone/some-model:small.Q8_0.gguf")

    assert named == gguf_rules.GgufFile("someone/some-model", "small.Q8_0.gguf")
    assert gguf_rules.gguf_file("someone/some-model") is None


def test_a_gguf_file_without_the_package_is_refused_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(gguf_rules, "find_spec", lambda name: None)

    gguf_rules.require_gguf("a/folder")
    with pytest.raises(ConfigError, match=r"pip install masa-rl\[gguf\]"):
        gguf_rules.require_gguf("a/folder/model.gguf")
