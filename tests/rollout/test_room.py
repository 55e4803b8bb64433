"""Prompt, hint and response fit the engine and the model, and every token has an embedding, or the run is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer, GPT2Config, LlamaConfig

from masa import MASATrainer, load_config
from masa.config import ConfigError
from masa.config.schema import RolloutSection
from masa.controls.plan import PlanSettings, PredictedProblem, hint_limit, plan_solutions
from masa.dry_run import dry_run
from masa.embedded import DATA_DIRECTORY
from masa.problems import Problem
from masa.rollout.room import engine_room, positions_of, require_embeddings, require_room

_PROBLEM = Problem(id="p", statement="s", answer="1", source="x")


class _Builder:
    """Prompts of 1,024 tokens, and one more for each word of a hint."""

    def prompt_ids(self, problem: Problem, path: str, hint: str | None = None) -> tuple[int, ...]:
        return (1,) * (1024 + len((hint or "").split()))


class _Hinting:
    def hint_of(self, problem: Problem, predictions: Any) -> str:
        return "a notion"

    def hinted(self, count: int) -> int:
        return count


@pytest.mark.parametrize(
    ("max_model_len", "positions"), [(None, 4096), (4096, 32768)], ids=["the model's positions", "max_model_len"]
)
def test_a_hint_is_given_only_where_prompt_hint_and_response_fit(max_model_len: int | None, positions: int) -> None:
    builder: Any = _Builder()
    section = RolloutSection(max_solution_tokens=3070, max_meta_tokens=1024, max_model_len=max_model_len)
    room = engine_room(section, LlamaConfig(max_position_embeddings=positions))
    fits = hint_limit(builder, 1024, section.max_solution_tokens, room)
    assert fits(_PROBLEM, "two words")
    assert not fits(_PROBLEM, "now three words")


@pytest.mark.parametrize("room", [True, False])
def test_hints_without_room_are_noted(room: bool) -> None:
    hinting: Any = _Hinting()
    settings = PlanSettings(2, 10, 0, hinting=hinting, hint_fits=lambda problem, hint: room)
    plan = plan_solutions(PredictedProblem(_PROBLEM, (), ()), 1, settings)
    assert plan.hint_left_out is not room
    assert (plan.hint is not None) is room
    assert plan.hinted == (room, room)


@pytest.mark.parametrize(
    ("named", "rope", "expected"),
    [
        (32768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (40960, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (163840, {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}, 163840),
        (4096, {"rope_type": "linear", "factor": 2.0}, 8192),
        (4096, {"rope_type": "dynamic", "factor": 2.0}, 8192),
        (4096, None, 4096),
    ],
)
def test_stretched_rotary_positions_reach_as_far_as_their_factor_says(
    named: int, rope: dict[str, Any] | None, expected: int
) -> None:
    config = LlamaConfig(max_position_embeddings=named, rope_parameters=rope)
    assert positions_of(config) == expected
    require_room(RolloutSection(max_model_len=expected), config, {}, "prompts.max_tokens 64")
    with pytest.raises(ConfigError, match=f"allowed: at most {expected}"):
        require_room(RolloutSection(max_model_len=expected + 1), config, {}, "prompts.max_tokens 64")


def test_llama_3s_positions_are_those_that_its_configuration_names() -> None:
    rope = {"factor": 8.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(max_position_embeddings=131072, rope_parameters={"rope_type": "llama3", **rope})
    assert positions_of(config) == 131072


def test_a_length_beyond_the_models_positions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.max_model_len: found 8192, allowed: at most 1024"):
        require_room(RolloutSection(max_model_len=8192), GPT2Config(), {}, "prompts.max_tokens 64")


def test_a_length_too_short_for_prompts_and_responses_is_refused() -> None:
    section = RolloutSection(max_model_len=100, max_solution_tokens=90)
    with pytest.raises(ConfigError, match=r"rollout\.max_model_len: found 100, allowed: at least 110"):
        require_room(section, LlamaConfig(), {"solution": 20}, "prompts.max_tokens 64")


def _folder(tmp_path: Path, **changes: Any) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(str(DATA_DIRECTORY))
    LlamaConfig(**{"vocab_size": len(tokenizer), "max_position_embeddings": 512, **changes}).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def _config(tmp_path: Path, *changes: str, **model: Any) -> Any:
    folder = _folder(tmp_path / "model", **model)
    path = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    return load_config(path, [f"model.path={folder}", f"run.dir={tmp_path / 'run'}", "problems.limit=40", *changes])


def _dry_run(config: Any) -> None:
    dry_run(config, Console(quiet=True))


@pytest.mark.parametrize("start", [MASATrainer, _dry_run], ids=["run", "dry run"])
def test_a_response_limit_beyond_the_context_is_refused_by_run_and_dry_run(start: Any, tmp_path: Path) -> None:
    config = _config(tmp_path, "rollout.max_solution_tokens=100", max_position_embeddings=32)
    with pytest.raises(ConfigError, match=r"rollout\.max_solution_tokens: found 100.*prompts\.max_tokens 64.*32 posi"):
        start(config)


@pytest.mark.parametrize("start", [MASATrainer, _dry_run], ids=["run", "dry run"])
def test_the_limit_of_prompts_may_exceed_the_room_where_the_prompts_do_not(start: Any, tmp_path: Path) -> None:
    start(_config(tmp_path, "prompts.max_tokens=512", max_position_embeddings=512))


@pytest.mark.parametrize("start", [MASATrainer, _dry_run], ids=["run", "dry run"])
def test_a_tokenizer_larger_than_the_embedding_is_refused_by_run_and_dry_run(start: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path: the tokenizer has \d+ tokens, the model embeddings for 20"):
        start(_config(tmp_path, vocab_size=20))


def test_special_tokens_that_nothing_uses_need_no_embedding() -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(DATA_DIRECTORY))
    model_config = LlamaConfig(vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    require_embeddings(tokenizer, model_config, [(1, 2)])
    image = tokenizer.convert_tokens_to_ids("<image>")
    with pytest.raises(ConfigError, match="<image>"):
        require_embeddings(tokenizer, model_config, [(1, image)])
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    with pytest.raises(ConfigError, match="<padding>"):
        require_embeddings(tokenizer, SimpleNamespace(get_text_config=lambda: model_config), [])
