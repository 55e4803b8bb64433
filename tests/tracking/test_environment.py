from __future__ import annotations

import subprocess
from pathlib import Path

from masa.tracking.environment import git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_reports_its_commit_and_whether_it_was_modified(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "modified": False}
    (tmp_path / "a.py").write_text("2")
    assert git_state(tmp_path) == {"commit": commit, "modified": True}


def test_an_untracked_folder_inside_a_checkout_reports_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "first")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "b.py").write_text("1")
    assert git_state(tmp_path / "installed") is None


def test_a_folder_outside_any_checkout_reports_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
