"""A model that is handed in without its tokenizer."""

from pathlib import Path

import pytest

from masa import MASATrainer
from masa.config import Config, ConfigError
from masa.embedded import load_embedded_policy, load_embedded_tokenizer


def test_a_model_without_a_tokenizer_brings_the_one_beside_its_weights(small_config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    load_embedded_policy().save_pretrained(folder)
    tokenizer = load_embedded_tokenizer()
    tokenizer.add_tokens(["<mine>"])
    tokenizer.save_pretrained(folder)
    model = load_embedded_policy()
    model.config.name_or_path = str(folder)
    model.resize_token_embeddings(len(tokenizer))
    trainer = MASATrainer(small_config, model=model)
    assert "<mine>" in trainer.prepared.tokenizer.get_vocab()


@pytest.mark.parametrize("where", ["", "no/such/folder"])
def test_a_model_whose_tokenizer_is_nowhere_is_refused(small_config: Config, where: str) -> None:
    model = load_embedded_policy()
    model.config.name_or_path = where
    with pytest.raises(ConfigError, match="model= was given without tokenizer="):
        MASATrainer(small_config, model=model)


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_refused(small_config: Config) -> None:
    tokenizer = load_embedded_tokenizer()
    tokenizer.add_tokens(["<mine>"])
    with pytest.raises(ConfigError, match="embeddings for"):
        MASATrainer(small_config, model=load_embedded_policy(), tokenizer=tokenizer)
