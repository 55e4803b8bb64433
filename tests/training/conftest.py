"""Runs small enough for a test: the embedded policy, few problems, short responses."""

from pathlib import Path

import pytest
from small_run import QUICKSTART, SMALL

from masa.config import Config, load_config


@pytest.fixture
def small_config(tmp_path: Path) -> Config:
    """A run of five steps in ``tmp_path/run``."""
    return load_config(QUICKSTART, [*SMALL, f"run.dir={tmp_path / 'run'}"])
