"""A study's file: its runs, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from study_files import PROJECT, write_study

from masa.config import ConfigError
from masa.studies.plan import planned_runs, read_study
from masa.study import main

STUDIES = sorted((PROJECT / "configs" / "studies").glob("*.yaml"))


def test_runs_go_seed_by_seed_and_differ_by_the_arms_options_alone(tmp_path):
    runs = planned_runs(write_study(tmp_path, seeds="[3, 1]"), tmp_path / "runs")
    assert [run.name for run in runs] == ["grpo-seed3", "masa-seed3", "grpo-seed1", "masa-seed1"]
    grpo, masa = runs[0], runs[1]
    assert grpo.config.run.dir == str(tmp_path / "runs" / "grpo-seed3")
    changed = {
        key for key in masa.differences | grpo.differences if masa.differences.get(key) != grpo.differences.get(key)
    }
    assert changed == {"algorithm.meta"}
    assert grpo.fingerprint != masa.fingerprint


def test_where_a_run_lies_and_how_many_threads_it_takes_do_not_make_it_another(tmp_path):
    here = planned_runs(write_study(tmp_path), tmp_path / "a")[0]
    there = planned_runs(write_study(tmp_path, run__threads=2), tmp_path / "b")[0]
    assert here.fingerprint == there.fingerprint
    assert planned_runs(write_study(tmp_path, steps=3), tmp_path / "a")[0].fingerprint != here.fingerprint


def test_numbers_are_read_as_configurations_read_them(tmp_path):
    (tmp_path / "study.yaml").write_text(
        write_study(tmp_path).read_text().replace("set:\n", "set:\n  optimizer.learning_rate: 1e-6\n", 1)
    )
    assert planned_runs(tmp_path / "study.yaml", tmp_path)[0].config.optimizer.learning_rate == 1e-6


def test_a_part_of_a_study_can_be_asked_for(tmp_path):
    runs = planned_runs(write_study(tmp_path, seeds="[0, 1]"), tmp_path, arms=["masa"], seeds=[1])
    assert [run.name for run in runs] == ["masa-seed1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baseline: grpo", "baseline: dapo"), "baseline: found 'dapo', allowed: grpo, masa"),
        (("seeds: [0]", "seeds: [0, 0]"), "in which one occurs twice"),
        (("seeds: [0]", "seeds: []"), "seeds: "),
        (("  masa:", "  The MASA:"), "arm 'The MASA': allowed are small letters"),
        (("title: MASA", "titel: MASA"), "arms.masa.titel"),
        (("algorithm.meta: true", "algorithm.meat: true"), "arm masa: .*algorithm.meat"),
        (("algorithm.meta: true", "algorithm.num_metas: 1"), "arm masa: .*algorithm.num_metas"),
        (("quickstart_grpo.yaml", "quickstart_none.yaml"), "arm grpo: .*no such configuration file"),
    ],
)
def test_a_study_that_cannot_run_is_refused_with_what_was_found(tmp_path, change, message):
    path = write_study(tmp_path)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        planned_runs(path, tmp_path)


@pytest.mark.parametrize(("text", "message"), [("- a\n", "holds a list"), ("a: [", "line 1: is not valid YAML")])
def test_a_file_that_is_no_study_is_refused(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "s.yaml")


def test_the_command_line_names_what_is_not_in_the_study_and_ends_with_code_2(tmp_path, capsys):
    path = str(write_study(tmp_path))
    assert main([path, "--plan", "--arms", "grpo", "dapo"]) == 2
    assert "--arms: found dapo, allowed: grpo, masa" in capsys.readouterr().err
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "no such study file" in capsys.readouterr().err


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_resolves(path: Path, tmp_path):
    study = read_study(path)
    assert set(yaml.safe_load(path.read_text())["arms"]) <= set(study.arms)
    assert len(planned_runs(path, tmp_path)) == len(study.arms) * len(study.seeds)


def test_a_study_may_extend_another_with_arms_and_options_of_its_own(tmp_path):
    below = write_study(tmp_path, seeds="[0, 1]")
    below.with_name("more.yaml").write_text(
        f"extends: {below.name}\nseeds: [7]\nset:\n  run.steps: 3\narms:\n  slow:\n    set:\n      run.steps: 5\n"
    )
    runs = {run.arm: run.config for run in planned_runs(below.with_name("more.yaml"), tmp_path)}
    assert {name: config.run.steps for name, config in runs.items()} == {"grpo": 3, "masa": 3, "slow": 5}
    assert {config.run.seed for config in runs.values()} == {7}
