"""A model that has no room for a benchmark, or no embedding for a token, is refused before it is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, LlamaConfig

from masa.config import load_config
from masa.embedded import DATA_DIRECTORY
from masa.evaluate import main
from masa.evaluation.running.generation import Policy
from masa.evaluation.running.settings import Budget
from masa.model import loading
from masa.rollout import factory


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_policy", refuse)


def _folder(tmp_path: Path, **changes: Any) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(str(DATA_DIRECTORY))
    folder = tmp_path / "model"
    LlamaConfig(**{"vocab_size": len(tokenizer), "max_position_embeddings": 512, **changes}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _evaluate(folder: Path, tmp_path: Path, *more: str) -> int:
    rows = tmp_path / "minerva.jsonl"
    rows.write_text("".join(json.dumps({"question": f"Count to {i}.", "answer": str(i)}) + "\n" for i in range(3)))
    arguments = ["--model", str(folder), "--benchmarks", "minerva", "--data", f"minerva={rows}"]
    return main([*arguments, "--out", str(tmp_path / "out"), *more])


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "--max-tokens: found 16384, allowed: at most "),
        (("--max-tokens", "64"), "--max-meta-tokens: found 2048, allowed: at most "),
        (("--max-tokens", "64", "--metas", "0", "rollout.max_model_len=80"), "rollout.max_model_len: found 80"),
    ],
    ids=["solutions", "metas", "rollout.max_model_len"],
)
def test_responses_beyond_the_models_room_are_refused_by_the_name_of_their_option(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _evaluate(_folder(tmp_path), tmp_path, *more) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "benchmark minerva" in said
    # Nothing is kept that would hold the next attempt, with another limit, to this one's.
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("nothing_loaded")
def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(_folder(tmp_path, vocab_size=20), tmp_path, "--max-tokens", "64", "--metas", "0") == 2
    assert "the model embeddings for 20" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_loaded")
def test_an_engine_that_is_not_installed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from masa.rollout.vllm import engine as vllm

    monkeypatch.setattr(vllm, "vllm_is_installed", lambda: False)
    options = ("--max-tokens", "64", "--metas", "0", "rollout.engine=vllm")
    assert _evaluate(_folder(tmp_path), tmp_path, *options) == 2
    assert "rollout.engine" in capsys.readouterr().err


def test_an_evaluated_model_gets_the_attention_that_training_gives_it(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(DATA_DIRECTORY))
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    torch.manual_seed(0)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = Policy(load_config(None, [f"model.path={tmp_path}", "rollout.engine=transformers"]))
    engine: Any = policy.engine(Budget(samples=1, metas=0, max_tokens=8, batch_size=4))
    assert engine.model.config._attn_implementation == "eager"
    assert any(note.startswith("model.attention: eager is used") for note in policy.notes)
    policy.close()


def test_engines_make_room_for_the_longest_prompt_and_never_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def make_engine(section: Any, model: Any, **options: Any) -> Any:
        seen.update(options, section=section)
        return type("Engine", (), {"close": lambda self: None})()

    monkeypatch.setattr(factory, "make_engine", make_engine)
    policy = Policy(load_config(None, ["rollout.engine=transformers", "rollout.sleep_level=1"]))
    policy.longest_prompt = 9000
    policy.engine(Budget(samples=1, metas=0, max_tokens=8, batch_size=4))
    assert seen["max_prompt_tokens"] == 9000
    assert seen["section"].sleep_level == 0
    policy.close()
