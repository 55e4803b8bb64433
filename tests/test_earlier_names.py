"""Modules under the names that they had before they were given rooms."""

import importlib
import sys

import pytest

from masa.earlier_names import HOMES
from masa.policy.objective import losses
from masa.policy.update.updater import PolicyUpdater


def test_an_earlier_name_gives_the_module_of_today_and_says_so() -> None:
    sys.modules.pop("masa.policy.losses", None)
    with pytest.warns(DeprecationWarning, match=r"masa\.policy\.losses is now masa\.policy\.objective\.losses"):
        found = importlib.import_module("masa.policy.losses")
    assert found is losses
    assert found.__spec__ is not None
    assert found.__spec__.name == "masa.policy.objective.losses"


def test_a_package_with_the_name_of_an_earlier_module_has_its_names() -> None:
    package = importlib.import_module("masa.policy.update")
    with pytest.warns(DeprecationWarning, match="PolicyUpdater"):
        assert package.PolicyUpdater is PolicyUpdater
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
    assert importlib.import_module("masa.policy.update.optimizer").__name__ == "masa.policy.update.optimizer"


def test_every_earlier_name_has_a_module_today() -> None:
    assert len(HOMES) > 90
    missing = [home for home in HOMES.values() if importlib.util.find_spec(home) is None]
    assert missing == []
    assert not any(importlib.util.find_spec(name.rpartition(".")[0]) is None for name in HOMES)
