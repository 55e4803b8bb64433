"""Configurations: read, overridden, refused with one message."""

from pathlib import Path

import pytest
import yaml

from masa.config import Config, ConfigError, config_from_mapping, differing_keys, dump_config, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_there_are_shipped_configs() -> None:
    assert {"quickstart", "math_smoke", "qwen3_8b", "qwen3_14b"} <= {path.stem for path in CONFIGS}


def test_overrides_reach_nested_keys_with_their_types() -> None:
    config = load_config(
        None, ["algorithm.num_solutions=8", "optimizer.learning_rate=3e-5", "prompts.meta_keys.notions=math_notion"]
    )
    assert config.algorithm.num_solutions == 8
    assert config.optimizer.learning_rate == 3e-5
    assert config.prompts.meta_keys.notions == "math_notion"


def test_the_last_override_of_a_key_wins() -> None:
    assert load_config(None, ["run.seed=1", "run.seed=2"]).run.seed == 2


def test_an_empty_section_means_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("run:\n  seed: 3\nrollout: {}\n")
    assert load_config(path).run.seed == 3


def test_a_dumped_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(CONFIGS[0].parent / "quickstart.yaml", ["run.seed=7"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_differing_keys_are_named_with_both_values() -> None:
    one, other = load_config(None, ["run.seed=1"]), load_config(None, ["run.seed=2"])
    assert differing_keys(one, other) == {"run.seed": (1, 2)}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("algorithm.num_solution=8", ["algorithm.num_solution", "did you mean algorithm.num_solutions?"]),
        ("num_metas=8", ["num_metas", "did you mean algorithm.num_metas?"]),
        ("rewards.meta_weights.lenght=1", ["rewards.meta_weights.lenght", "rewards.meta_weights.length"]),
        ("zzz=1", ["zzz: unknown key", "model, problems, prompts"]),
        ("run.seed=-1", ["run.seed", "-1", "at least 0"]),
        ("run.seed=1.5", ["run.seed", "1.5", "a whole number"]),
        ("run.steps=many", ["run.steps", "'many'", "a whole number"]),
        ("algorithm.meta=3", ["algorithm.meta", "3", "true or false"]),
        ("algorithm.num_metas=1", ["algorithm.num_metas", "1", "at least 2"]),
        ("algorithm.name=ppo", ["algorithm.name", "'ppo'", "'grpo'", "'dapo'"]),
        ("rollout.temperature=0", ["rollout.temperature", "0", "more than 0"]),
        ("rollout.top_p=1.5", ["rollout.top_p", "1.5", "at most 1"]),
        ("optimizer.learning_rate=fast", ["optimizer.learning_rate", "'fast'", "a number"]),
        ("rewards.difficulty_base=1", ["rewards.difficulty_base", "1", "less than 1"]),
        ("problems.columns=question", ["problems.columns", "'question'", "a mapping"]),
        ("algorithm=grpo", ["algorithm", "'grpo'", "a mapping of keys"]),
        (
            "rewards.meta_weights={length: 0, difficulty: 0, notion: 0}",
            ["rewards.meta_weights", "algorithm.meta=false"],
        ),
        ("algorithm.overlong.punish_tokens=9000", ["algorithm.overlong.punish_tokens", "9000", "8192"]),
        ("run.seed", ["'run.seed'", "section.key=value"]),
        ("run.seed.deeper.still=1", ["run.seed"]),
    ],
)
def test_a_mistake_is_told_with_key_value_and_what_is_allowed(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    for part in parts:
        assert part in str(caught.value)


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_mapping({"run": {"seed": -1}, "algorithm": {"num_problems": 0}}, "my.yaml")
    assert "my.yaml" in str(caught.value)
    assert "run.seed" in str(caught.value)
    assert "algorithm.num_problems" in str(caught.value)


def test_every_option_is_documented() -> None:
    def undocumented(section: type, prefix: str) -> list[str]:
        missing = []
        for name, field in section.model_fields.items():  # type: ignore[attr-defined]
            nested = getattr(field.annotation, "model_fields", None)
            if nested is not None:
                missing += undocumented(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                missing.append(f"{prefix}{name}")
        return missing

    assert undocumented(Config, "") == []


@pytest.mark.parametrize("key", ["optimizer.packing", "optimizer.share_prompts", "model.liger_kernel"])
@pytest.mark.parametrize(("written", "meant"), [("on", "on"), ("off", "off"), ("'on'", "on"), ("auto", "auto")])
def test_on_and_off_are_words_where_yaml_reads_truth_values(tmp_path: Path, key: str, written: str, meant: str) -> None:
    section, name = key.split(".")
    (tmp_path / "config.yaml").write_text(f"{section}: {{{name}: {written}}}\n")
    for config in (load_config(None, [f"{key}={written}"]), load_config(tmp_path / "config.yaml")):
        assert getattr(getattr(config, section), name) == meant
        assert config_from_mapping(yaml.safe_load(dump_config(config))) == config
