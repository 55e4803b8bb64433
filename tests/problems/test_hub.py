"""Hub data sets and presets: read through `datasets`, with a clear message where the hub cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masa.problems import ProblemDataError, load_problems
from masa.problems.errors import HubUnavailableError

GSM8K_ROW = {"question": "How many?", "answer": "6 * 7 = 42\n#### 42"}


class FakeHub(types.ModuleType):
    """Stands in for `datasets`: remembers what was asked for, and gives the rows or raises the error."""

    def __init__(self, rows: list[dict[str, Any]] | Exception) -> None:
        super().__init__("datasets")
        self.rows = rows
        self.asked: list[tuple[str, str | None, str]] = []

    def load_dataset(self, repository: str, config: str | None, *, split: str) -> FakeHub:
        self.asked.append((repository, config, split))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self

    def with_format(self, name: str) -> FakeHub:
        assert name == "arrow"
        return self

    def iter(self, batch_size: int) -> Iterator[Any]:
        import pyarrow

        assert not isinstance(self.rows, Exception)
        for start in range(0, len(self.rows), batch_size):
            yield pyarrow.Table.from_pylist(self.rows[start : start + batch_size])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub([GSM8K_ROW])
    monkeypatch.setattr("masa.problems.hub.hub_is_reachable", lambda: True)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("gsm8k", ("openai/gsm8k", "main", "test")),
        ("math", ("TianHongZXY/MATH", None, "test")),
        ("deepscaler", ("agentica-org/DeepScaleR-Preview-Dataset", None, "test")),
        ("dapo_math_17k", ("BytedTsinghua-SIA/DAPO-Math-17k", None, "test")),
        ("owner/name", ("owner/name", None, "test")),
        ("owner/name-1.5:some_config", ("owner/name-1.5", "some_config", "test")),
    ],
)
def test_presets_and_hub_ids_ask_the_hub_for_their_data_set(
    hub: FakeHub, source: str, asked: tuple[str, str | None, str]
) -> None:
    (problem,) = load_problems(source, split="test").problems
    assert hub.asked == [asked]
    assert (problem.answer, problem.source) == ("42", source.partition(":")[0])


def test_a_large_data_set_is_read_batch_by_batch_up_to_the_limit(hub: FakeHub) -> None:
    hub.rows = [{"problem": f"{number} + 1?", "answer": number + 1} for number in range(2500)]
    assert len(load_problems("owner/name").problems) == 2500
    assert load_problems("owner/name", limit=1200).report.rows_read == 1200


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub"), "ConnectionError: Couldn't reach"),
        (ValueError("Config name is missing.\nPlease pick one"), "ValueError: Config name is missing."),
        (ValueError("Unknown split \"train\". Should be one of ['test']."), 'Unknown split "train"'),
        (RuntimeError(), "cannot be loaded: RuntimeError. Where there is no network"),
    ],
)
def test_a_hub_that_gives_nothing_is_told_with_what_was_tried_and_the_way_out(
    hub: FakeHub, error: Exception, told: str
) -> None:
    hub.rows = error
    with pytest.raises(ProblemDataError) as caught:
        load_problems("gsm8k")
    message = str(caught.value)
    assert message.startswith("hub data set 'openai/gsm8k' (config 'main', split 'train') cannot be loaded: ")
    assert told in message
    assert "the path of a .parquet, .json, .jsonl or .csv file" in message
    assert "\n" not in message


def test_a_failing_network_is_told_apart_from_a_data_set_that_is_not_there(hub: FakeHub) -> None:
    hub.rows = ConnectionError("no route")
    with pytest.raises(HubUnavailableError):
        load_problems("gsm8k")
    hub.rows = FileNotFoundError("Dataset 'owner/nmae' doesn't exist on the Hub")
    with pytest.raises(ProblemDataError) as caught:
        load_problems("owner/nmae")
    assert not isinstance(caught.value, HubUnavailableError)


def test_a_hub_that_cannot_be_reached_is_not_tried_again(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("masa.problems.hub.hub_is_reachable", lambda: False)
    with pytest.raises(HubUnavailableError, match=r"the hub cannot be reached\. Give a local copy instead"):
        load_problems("gsm8k")
    assert hub.asked == []


def test_a_missing_datasets_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masa.problems.hub.hub_is_reachable", lambda: True)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProblemDataError, match="ModuleNotFoundError"):
        load_problems("owner/name")


def test_the_real_datasets_package_offline_gives_the_same_message(tmp_path: Path) -> None:
    code = "from masa.problems import load_problems; load_problems('deepscaler')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last_line = done.stderr.strip().splitlines()[-1]
    assert "HubUnavailableError: hub data set 'agentica-org/DeepScaleR-Preview-Dataset' (split 'train')" in last_line
    assert "give a local copy instead" in last_line


def test_the_real_datasets_package_gives_rows_as_the_loader_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    table = datasets.Dataset.from_list([GSM8K_ROW, {"question": "And now?", "answer": "#### 7"}])
    monkeypatch.setattr("masa.problems.hub.hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: table)
    assert [problem.answer for problem in load_problems("gsm8k").problems] == ["42", "7"]
