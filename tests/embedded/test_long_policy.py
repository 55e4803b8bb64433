"""The long world's policy: built from a seed, trained through the configuration, measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from masa.config import ConfigError, load_config
from masa.config.schema import ModelSection
from masa.embedded import worlds
from masa.embedded.long import DATA_DIRECTORY, long_problems
from masa.embedded.long.build import STAGES, build
from masa.embedded.long.measure import main as measure_policy
from masa.embedded.long.properties import BOUNDS, PROPERTIES, measure, unmet
from masa.embedded.long.tokenizer import make_tokenizer
from masa.embedded.long.world import KINDS, SIZES
from masa.embedded.warm_start import WarmStart
from masa.model.loading import load_policy, load_tokenizer
from masa.problems import load_problems
from masa.studies.plan import read_study
from masa.tracking.jsonl import read_rows
from masa.train import main as train

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / "configs" / "long_grpo.yaml"
PAGE = (PROJECT / "docs" / "embedded.md").read_text()
TINY = WarmStart(examples=32, batch_size=8, warm_up_steps=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A policy of a few warm-start steps, and what its build said."""
    folder = tmp_path_factory.mktemp("long")
    return folder, build(folder, seed=3, stages=[TINY])


@pytest.fixture
def as_embedded_long(built, monkeypatch):
    """That policy in the place of the one that the full build makes."""
    world = replace(worlds.EMBEDDED_WORLDS["embedded:long"], data=built[0])
    monkeypatch.setitem(worlds.EMBEDDED_WORLDS, "embedded:long", world)


def test_a_build_is_repeated_bit_for_bit_from_its_seed_whatever_the_threads(built, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = build(tmp_path / "again", seed=3, stages=[TINY])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert again["weights_sha256"] == built[1]["weights_sha256"]
    assert build(tmp_path / "other", seed=4, stages=[TINY])["weights_sha256"] != again["weights_sha256"]
    assert json.loads((tmp_path / "again" / "build.json").read_text()) == again


def test_the_policy_is_of_one_to_four_million_parameters_in_at_most_eight_megabytes(built):
    folder, facts = built
    assert 1_000_000 <= facts["parameters"] <= 4_000_000
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000
    assert f"{facts['parameters']:,} parameters" in PAGE


def test_policy_and_tokenizer_load_by_the_worlds_name(built, as_embedded_long):
    section = ModelSection(path="embedded:long")
    assert sum(p.numel() for p in load_policy(section).parameters()) == built[1]["parameters"]
    assert load_tokenizer(section).get_vocab() == make_tokenizer().get_vocab()


def test_a_policy_that_was_not_built_is_asked_for_by_its_command(tmp_path, monkeypatch):
    world = replace(worlds.EMBEDDED_WORLDS["embedded:long"], data=tmp_path / "nothing")
    monkeypatch.setitem(worlds.EMBEDDED_WORLDS, "embedded:long", world)
    with pytest.raises(
        ConfigError, match=r"'embedded:long' is not built yet: run `python -m masa\.embedded\.long\.build`"
    ):
        load_policy(ModelSection(path="embedded:long"))


def test_its_problems_are_named_like_the_other_worlds():
    train_split = load_problems("embedded:long", limit=8).problems
    assert train_split == load_problems("embedded:long:train", limit=8).problems == long_problems("train")[:8]
    assert load_problems("embedded:long:test").problems == long_problems("test")


def test_plain_grpo_and_masa_with_hints_train_on_it(as_embedded_long, tmp_path):
    for name, changes in {
        "grpo": (),
        "masa": ("algorithm.meta=true", "algorithm.num_metas=2", "controls.hinting.enabled=true"),
    }.items():
        settings = [
            f"run.dir={tmp_path / name}",
            "run.steps=1",
            "algorithm.num_problems=2",
            "algorithm.num_solutions=2",
            "rollout.max_solution_tokens=32",
            "rollout.check_at_start=false",
            "problems.eval_limit=2",
            "evaluation.num_samples=1",
            "tracking.figures=false",
            "rewards.verifier_workers=1",
        ]
        assert train(["--config", str(CONFIG), *settings, *changes]) == 0
        rows = read_rows(tmp_path / name / "metrics.jsonl")
        assert rows[-1]["step"] == 1
        assert rows[-1]["cost/solution_tokens"] > 0
        assert (rows[-1]["cost/meta_tokens"] > 0) == (name == "masa")


def test_a_policy_is_sampled_by_one_command(built, capsys):
    measure_policy([str(built[0]), "--problems", "2"])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"solutions", "right_hint", "wrong_hint", "meta_tokens"}
    assert found["solutions"]["solutions_per_problem"] == 16
    assert found["right_hint"]["problems"] == 2


def test_unmet_names_the_value_and_what_was_wanted():
    assert unmet({name: low for name, (low, _) in BOUNDS.items()}) == []
    off = {name: low for name, (low, _) in BOUNDS.items()} | {"final_accuracy": 0.95}
    assert unmet(off) == ["final_accuracy is 0.95, wanted 0.5 to 0.9"]


def test_the_measurements_refuse_metas(tmp_path):
    assert not load_config(CONFIG).algorithm.meta
    other = tmp_path / "meta.yaml"
    other.write_text(CONFIG.read_text().replace("meta: false", "meta: true"))
    with pytest.raises(ConfigError, match=r"found algorithm\.meta: true, allowed for these measurements: false"):
        measure(other, [0], tmp_path)


def test_the_page_states_the_bounds_kinds_and_sizes():
    for name, (low, high) in BOUNDS.items():
        assert f"| `{name}` | {low:g} to {high:g} |" in PAGE
    for size in SIZES:
        assert f"| {size.name} | {size.fewest} to {size.most} | {size.share} % |" in PAGE
    for kind, order in KINDS.items():
        assert f"| {kind} | {order} |" in PAGE
    assert f"{sum(stage.examples for stage in STAGES):,} examples" in PAGE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_measurements_run_and_say_what_they_found(built, tmp_path):
    """With a policy of a few steps and five short steps of training: every figure is there and is a share or a size."""
    config = tmp_path / "tiny.yaml"
    text = CONFIG.read_text().replace("path: embedded:long", f"path: {built[0]}")
    for old, new in {
        "steps: 150": "steps: 5",
        "every: 25": "every: 2",
        "eval_limit: 256": "eval_limit: 4",
        "num_problems: 8": "num_problems: 2",
    }.items():
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    found = measure(config, [0], tmp_path / "runs")
    assert set(found["properties"]) == set(BOUNDS)
    assert found["properties"]["parameters"] == built[1]["parameters"]
    assert [one["first_step"] for one in found["windows"]] == [1, 2, 3, 4, 5]
    for window in found["windows"]:
        assert 0 <= window["solved_all"] + window["solved_none"] <= 1
        assert 0 < window["meta_share"] < 1
    assert unmet(found["properties"])


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_frozen_properties_hold_when_the_world_is_built_and_measured_again(tmp_path):
    """Twenty to forty minutes: the policy is built where it is not yet, and plain GRPO is trained with two seeds."""
    frozen = json.loads(PROPERTIES.read_text())
    folder = DATA_DIRECTORY
    if not (folder / "model.safetensors").exists():
        folder = tmp_path / "policy"
        build(folder)
    config = tmp_path / "long_grpo.yaml"
    config.write_text(CONFIG.read_text().replace("path: embedded:long", f"path: {folder}"))
    found = measure(config, frozen["seeds"], tmp_path / "runs")["properties"]
    # The time of a step is this machine's and its load's.
    assert [line for line in unmet(found) if not line.startswith("processor_seconds")] == []
    assert found["final_accuracy"] == pytest.approx(frozen["properties"]["final_accuracy"], abs=0.1)


def test_the_frozen_file_holds_all_properties_within_their_bounds():
    frozen = json.loads(PROPERTIES.read_text())
    assert set(frozen["properties"]) == set(BOUNDS)
    assert unmet(frozen["properties"]) == []
    # Seeds of studies are reported; the world was shaped and measured on others.
    studies = (PROJECT / "configs" / "studies").glob("*.yaml")
    reported = {seed for path in studies if path.stem != "options" for seed in read_study(path).seeds}
    assert reported.isdisjoint(frozen["seeds"])


def test_what_was_built_lies_where_the_world_looks_for_it():
    assert worlds.EMBEDDED_WORLDS["embedded:long"].data == DATA_DIRECTORY
