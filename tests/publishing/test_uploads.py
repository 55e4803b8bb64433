"""Uploads to the hub: of a run at its end or of its checkpoints, the model card, and what happens without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from masa import MASATrainer, cli, load_config
from masa.callbacks import Callback
from masa.config import Config, ConfigError
from masa.publishing import callback as callback_module
from masa.publishing import upload as upload_module
from masa.publishing.publish import prepare_publication
from masa.publishing.upload import HubPushError
from masa.run_state import RunState
from masa.tracking.run_directory import RunDirectory

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
TINY = [
    "algorithm.num_problems=2", "algorithm.num_solutions=2", "algorithm.num_metas=2", "problems.limit=16",
    "problems.eval_limit=4", "rollout.check_at_start=false", "rollout.max_solution_tokens=48",
    "rollout.max_meta_tokens=40", "rewards.verifier_workers=1", "run.steps=3", "run.threads=1", "evaluation.every=0",
    "tracking.figures=false", "checkpoint.every=1", "checkpoint.keep=1", "tracking.project=secret",
]  # fmt: skip


class Hub:
    """Stands in for the hub: keeps what is uploaded, in the order of the commits."""

    def __init__(self) -> None:
        self.private: bool | None = None
        self.commits: list[dict[str, Any]] = []
        self.refuses = False

    def __call__(self, token: str | None) -> Hub:
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        self.private = private if self.private is None else self.private
        return type("Url", (), {"repo_id": repo_id if "/" in repo_id else f"me/{repo_id}"})

    def model_info(self, repo_id: str) -> Any:
        return type("Info", (), {"private": self.private})

    def upload_folder(self, repo_id: str, *, folder_path: Path, commit_message: str) -> Any:
        if self.refuses:
            raise ConnectionError("the network is gone")
        files = {str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()}
        card = (Path(folder_path) / "README.md").read_text()
        self.commits.append({"repo": repo_id, "files": files, "card": card, "message": commit_message})
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}/{len(self.commits)}"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that is reached and has a token."""
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setattr(upload_module, "missing_for_upload", lambda: None)
    monkeypatch.setattr(callback_module.HubUploads.__init__, "__defaults__", (lambda: None,))
    return hub


def _config(folder: Path, *changes: str) -> Config:
    return load_config(QUICKSTART, [*TINY, f"run.dir={folder}", *changes])


def _train(config: Config, **options: Any) -> None:
    MASATrainer(config, **options).train()


def test_the_policy_is_uploaded_at_the_end_in_private_without_the_state_of_training(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(_config(tmp_path / "run", "hub.repo=me/policy"))
    (commit,) = hub.commits
    assert hub.private is True
    assert (commit["repo"], commit["message"]) == ("me/policy", "Policy after step 3")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= commit["files"]
    assert not [name for name in commit["files"] if name.startswith(("training", "state.json"))]
    assert "hub: step 3 is at https://hub/me/policy/1" in capsys.readouterr().out
    assert list((tmp_path / "run").glob(".upload-*")) == []


def test_checkpoints_are_uploaded_while_the_run_goes_on(hub: Hub, tmp_path: Path) -> None:
    class Waits(Callback):
        """Gives the upload its time, which a step of a real run has."""

        def on_step_begin(self, run: RunState) -> None:
            import threading

            for thread in threading.enumerate():
                if thread.name == "masa-hub":
                    thread.join()

    _train(_config(tmp_path / "run", "hub.repo=policy", "hub.when=checkpoints"), callbacks=[Waits()])
    assert [commit["message"] for commit in hub.commits] == [f"Policy after step {step}" for step in (1, 2, 3)]
    assert "during the run, whose last recorded step is 1" in hub.commits[0]["card"]
    assert "at the end of the run" in hub.commits[2]["card"]


def test_a_checkpoint_that_is_removed_meanwhile_is_still_uploaded(tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "run"
    _train(_config(folder))
    publication = prepare_publication(RunDirectory(folder), "me/policy")
    for path in (folder / "checkpoints" / "step_000003").glob("*.safetensors"):
        path.unlink()
    publication.upload("me/policy", private=True)
    assert "model.safetensors" in hub.commits[0]["files"]


@pytest.mark.parametrize("when", ["end", "checkpoints"])
def test_without_a_token_a_line_says_so_and_the_run_goes_on(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder = tmp_path / "run"
    _train(_config(folder, "hub.repo=me/policy", f"hub.when={when}"))
    shown = capsys.readouterr().out
    line = (
        "hub: nothing is uploaded: there is no token; log in with `hf auth login` or set HF_TOKEN. The run "
        "continues; to "
        f"upload its newest checkpoint later: masa push {folder} --repo me/policy"
    )
    # At the beginning and at the end, and not with every checkpoint.
    assert shown.count("hub: ") == shown.count(line) == 2
    assert (folder / "summary.json").exists()


def test_a_hub_that_refuses_ends_no_run(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.refuses = True
    _train(_config(tmp_path / "run", "hub.repo=me/policy"))
    shown = capsys.readouterr().out
    assert "me/policy was not uploaded: ConnectionError: the network is gone. The run continues" in shown
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_public_repository_is_refused_unless_it_is_asked_for(hub: Hub, tmp_path: Path, capsys: Any) -> None:
    hub.private = False
    _train(_config(tmp_path / "run", "hub.repo=me/policy", "run.steps=1"))
    assert hub.commits == []
    assert "me/policy is public, and a private repository was asked for" in capsys.readouterr().out
    _train(_config(tmp_path / "open", "hub.repo=me/policy", "run.steps=1", "hub.private=false"))
    assert len(hub.commits) == 1


def test_the_card_has_base_model_data_recipe_curves_evaluation_command_and_versions(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _train(_config(folder, "tracking.figures=true", "evaluation.num_samples=2"))
    evaluate = ["evaluate", "--run", str(folder), "--benchmarks", "embedded", "--limit", "4", "--samples", "2"]
    assert cli.main([*evaluate, "--metas", "0", "--max-tokens", "32", "--resamples", "99"]) == 0
    publication = prepare_publication(RunDirectory(folder), "me/policy")
    card = (publication.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["masa", "dapo", "reinforcement-learning", "reasoning"],
    }
    assert "# policy" in card
    assert 'from_pretrained("me/policy")' in card
    assert "| base model | `embedded` |" in card
    assert "| data | `embedded:train`, 16 problems |" in card
    recipe = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert recipe["algorithm"]["num_problems"] == 2
    assert recipe["run"]["steps"] == 3
    # Where a run lies, and who watches it, is not told.
    assert "secret" not in card.split("## Command")[0]
    assert "dir" not in recipe["run"]
    assert "![overview](figures/overview.png)" in card
    assert (publication.folder / "figures" / "overview.png").exists()
    assert re.search(r"\| correct solutions \| 0\.\d{3} \| 0\.\d{3} \|", card)
    assert re.search(r"\| before training \| 4 \| \d+\.\d( \[\d+\.\d, \d+\.\d\])? \|", card)
    assert re.search(r"\| step 3 \| 4 \| \d+\.\d", card)
    assert "Difference on the same problems:" in card
    assert re.search(
        r"Benchmarks \(step-3; 2 samples, .*\):\n\n.*\n.*\n\| Embedded arithmetic \| 4 \| pass@1: \d", card
    )
    assert "torch " in card.split("## Command")[1]


def test_the_card_of_a_hub_model_names_model_and_data_in_its_head(tmp_path: Path) -> None:
    from masa.publishing.card import _head

    config = load_config(
        overrides=[
            "model.path=Qwen/Qwen3-8B-Base",
            "problems.train=[{source: deepscaler}, {source: openai/gsm8k:main}]",
        ]
    )
    head = yaml.safe_load(_head(config))
    assert head["base_model"] == "Qwen/Qwen3-8B-Base"
    assert head["datasets"] == ["agentica-org/DeepScaleR-Preview-Dataset", "openai/gsm8k"]
    own = load_config(overrides=[f"model.path={tmp_path}", f"problems.train={tmp_path / 'mine.jsonl'}"])
    assert not {"base_model", "datasets"} & set(yaml.safe_load(_head(own)))


def test_a_run_is_uploaded_later_by_a_command(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    _train(_config(folder, "checkpoint.keep=3"))
    capsys.readouterr()
    assert cli.main(["push", str(folder), "--repo", "me/policy", "--step", "2"]) == 0
    assert capsys.readouterr().out == "https://hub/me/policy/1\n"
    assert hub.commits[0]["message"] == "Policy after step 2"
    assert cli.main(["push", str(folder), "--repo", "me/policy", "--card"]) == 0
    assert capsys.readouterr().out.startswith("---\nlibrary_name: transformers\n")
    assert len(hub.commits) == 1
    hub.refuses = True
    assert cli.main(["push", str(folder), "--repo", "me/policy"]) == 1
    assert "me/policy was not uploaded: ConnectionError" in capsys.readouterr().err
    assert list(folder.glob(".upload-*")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "--repo", "me/x"], 2, "nowhere is no folder"),
        (["run"], 2, "--repo: owner/name is needed"),
        (["run", "--repo", "a/b/c"], 2, "found 'a/b/c', allowed: owner/name"),
        (["run", "--repo", "me/x", "--step", "9"], 1, "run lacks the checkpoint of step 9; it has none"),
    ],
)
def test_what_cannot_be_uploaded_is_named(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("run: {steps: 3}\n")
    assert cli.main(["push", *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_repository_that_cannot_be_is_refused_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"hub\.repo: found 'a b', allowed: owner/name"):
        load_config(overrides=["hub.repo=a b"])


def test_what_an_upload_lacks_is_found_out_without_a_library_that_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("masa.hub.ask_hub", lambda: False)
    assert "cannot be reached from here" in str(upload_module.missing_for_upload())
    monkeypatch.setattr("masa.hub.ask_hub", lambda: True)
    assert upload_module.missing_for_upload() is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert upload_module.missing_for_upload() == "HF_HUB_OFFLINE is set"
    assert issubclass(HubPushError, RuntimeError)


def test_a_dry_run_says_what_an_upload_would_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masa import dry_run

    monkeypatch.setattr(dry_run, "missing_for_upload", lambda: "there is no token")
    notes: list[str] = []
    dry_run._check(_config(tmp_path / "run", "hub.repo=me/policy"), notes)
    assert notes[-1] == "hub.repo: nothing can be uploaded from here: there is no token"
    notes.clear()
    dry_run._check(_config(tmp_path / "run"), notes)
    assert not [note for note in notes if note.startswith("hub.")]
