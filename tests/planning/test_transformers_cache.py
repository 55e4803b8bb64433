"""The transformers engine's cache by formula against its buffers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from masa import train
from masa.config import load_config
from masa.planning.engine_memory import transformers_cache
from masa.planning.report import read_shape
from masa.rollout.room import load_model_config
from masa.rollout.transformers.kv_cache import GrowingCache


def test_buffers_of_grown_sequences_are_what_the_formula_says() -> None:
    config = load_config(None, ["model.path=embedded"])
    shape = read_shape(config, load_model_config(config.model), [])
    assert shape is not None
    cache, rows, length = GrowingCache(), 3, 100
    for layer in range(shape.layers):
        for tokens in (40, 60):
            states = torch.zeros(rows, shape.kv_heads, tokens, shape.head_width)
            cache.update(states, states, layer)
    held = sum(one.untyped_storage().nbytes() for layer in cache.layers for one in (layer.keys, layer.values))
    growing = held // shape.layers // 4  # keys of one layer at half the room: 64 of 128 tokens
    assert transformers_cache(shape, "float32", sequences=rows, length=length) == held + growing
    # Of three sequences a quarter is at least one: its prompt of 100 tokens has the room that one of the three has.
    assert transformers_cache(shape, "float32", sequences=rows, length=length, ahead=100) == held * 4 // 3 + growing


@pytest.mark.parametrize(("meta", "count"), [("true", "12 sequences"), ("false", "8 sequences")])
def test_the_cache_is_planned_for_the_sequences_of_both_paths(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, meta: str, count: str
) -> None:
    sizes = ["algorithm.num_problems=4", "algorithm.num_solutions=2", "algorithm.num_metas=3", f"algorithm.meta={meta}"]
    arguments = ["--config", "configs/quickstart.yaml", "--dry-run", f"run.dir={tmp_path / 'run'}", *sizes]
    assert train.main([*arguments, "rollout.max_batch_size=12"]) == 0
    assert f"KV cache of {count}, transformers engine" in capsys.readouterr().out
