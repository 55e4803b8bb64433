"""Nine runs, three methods with three seeds each, written once for all tests of reports."""

from pathlib import Path

import pytest
from synthetic_runs import METHODS, make_run


@pytest.fixture(scope="session")
def run_dirs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """In the order MASA-efficient, MASA, GRPO: the report has to find its own."""
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / f"{method}-{seed}", method, seed) for method in reversed(METHODS) for seed in (0, 1, 2)]
