"""Configurations that extend one another: merged key by key, resolved whole, refused by name where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from masa.config import ConfigError, dump_config, load_config
from masa.tracking.run_directory import RunDirectory


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_file_changes_single_keys_of_the_file_it_extends(tmp_path: Path) -> None:
    _write(
        tmp_path,
        base="run: {seed: 3, steps: 7}\nalgorithm: {num_metas: 8}\nrollout: {stop_token_ids: [1, 2]}\n",
        mine="extends: base.yaml\nrun: {seed: 4}\nrollout: {stop_token_ids: [5]}\n",
    )
    config = load_config(tmp_path / "mine.yaml")
    assert (config.run.seed, config.run.steps, config.algorithm.num_metas) == (4, 7, 8)
    assert config.rollout.stop_token_ids == [5]


def test_null_takes_a_value_away_and_an_empty_section_changes_nothing(tmp_path: Path) -> None:
    _write(tmp_path, base="run: {seed: 3, steps: 7}\n", mine="extends: base.yaml\nrun: {steps: null}\n", more="run:\n")
    (tmp_path / "more.yaml").write_text("extends: mine.yaml\nrun:\n")
    config = load_config(tmp_path / "more.yaml")
    assert (config.run.seed, config.run.steps) == (3, None)


def test_each_file_of_a_chain_is_found_relative_to_the_one_that_extends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(
        tmp_path,
        bases__deep__root="run: {seed: 1, steps: 1, epochs: 1}\n",
        bases__middle="extends: deep/root.yaml\nrun: {steps: 2, epochs: 2}\n",
        mine__top="extends: ../bases/middle.yaml\nrun: {epochs: 3}\n",
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = load_config("../mine/top.yaml").run
    assert (run.seed, run.steps, run.epochs) == (1, 2, 3)


def test_overrides_go_over_all_files(tmp_path: Path) -> None:
    _write(tmp_path, base="run: {seed: 3}\n", mine="extends: base.yaml\nrun: {seed: 4}\n")
    assert load_config(tmp_path / "mine.yaml", ["run.seed=5"]).run.seed == 5


def test_the_run_directory_holds_the_whole_configuration_and_names_no_other_file(tmp_path: Path) -> None:
    _write(tmp_path, base="algorithm: {num_metas: 5}\n", mine="extends: base.yaml\nrun: {seed: 4}\n")
    config = load_config(tmp_path / "mine.yaml")
    directory = RunDirectory(tmp_path / "run")
    directory.create(dump_config(config), resume=False)
    (tmp_path / "base.yaml").unlink()
    assert "extends" not in directory.config.read_text()
    assert load_config(directory.config) == config


@pytest.mark.parametrize("names", [("mine",), ("mine", "other"), ("mine", "other", "third")])
def test_files_that_extend_one_another_in_a_circle_are_refused_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, following in zip(names, (*names[1:], names[0]), strict=True):
        _write(tmp_path, **{name: f"extends: ./{following}.yaml\n"})
    with pytest.raises(ConfigError, match="in a circle") as caught:
        load_config(tmp_path / "mine.yaml")
    for name in names:
        assert str(tmp_path / f"{name}.yaml") in str(caught.value)


@pytest.mark.parametrize("named", ["3", "[base.yaml]", "{a: 1}", "''", "null"])
def test_what_is_no_path_is_refused(tmp_path: Path, named: str) -> None:
    _write(tmp_path, mine=f"extends: {named}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: extends: found .* allowed: the path of one file"):
        load_config(tmp_path / "mine.yaml")


def test_a_missing_file_is_named_with_the_one_that_extends_it(tmp_path: Path) -> None:
    _write(tmp_path, mine="extends: away.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "mine.yaml")
    assert str(tmp_path / "away.yaml") in str(caught.value)
    assert f"which {tmp_path / 'mine.yaml'} extends" in str(caught.value)


def test_a_mistake_names_all_files_that_it_may_stand_in(tmp_path: Path) -> None:
    _write(tmp_path, base="run: {seed: -1}\n", mine="extends: base.yaml\nrun: {steps: 4}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml extending .*base\.yaml: run\.seed: found -1"):
        load_config(tmp_path / "mine.yaml")
