"""Problems out of data frames, data sets and the folders that `save_to_disk` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from rich.console import Console
from training.small_run import QUICKSTART

from masa import MASATrainer
from masa.config import load_config
from masa.preflight import load_rows
from masa.problems import ProblemDataError, load_problems

ROWS = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(4)]
CHAT = [{"prompt": [{"role": "system", "content": "Count."}, {"role": "user", "content": "1 + 1?"}], "answer": "2"}]


def answers(source: Any, **options: Any) -> list[Any]:
    return [problem.answer for problem in load_problems(source, **options).problems]


@pytest.mark.parametrize("make", [pandas.DataFrame, datasets.Dataset.from_list], ids=["DataFrame", "Dataset"])
def test_a_data_frame_or_a_data_set_is_read_like_a_list_of_its_rows(make: Any) -> None:
    assert answers(make(ROWS)) == ["1", "2", "3", "4"]
    assert load_problems(make(CHAT)).problems == load_problems(CHAT).problems


def test_a_data_set_in_another_format_gives_plain_values() -> None:
    formatted = datasets.Dataset.from_list([{"problem": "a?", "answer": 7}]).with_format("numpy")
    assert answers(formatted) == ["7"]


def test_the_split_of_a_dataset_dict_is_chosen_and_a_wrong_one_is_refused_with_those_there_are() -> None:
    made = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS), test=datasets.Dataset.from_list(ROWS[:1]))
    assert answers(made, split="test") == ["1"]
    with pytest.raises(ProblemDataError, match=r"found the split 'tset' \(nearest: 'test'\), allowed: train, test"):
        load_problems(made, split="tset")
    assert answers(datasets.DatasetDict(only=made["test"])) == ["1"]


def test_a_stream_needs_a_limit_and_ends_even_where_it_repeats_itself() -> None:
    def rows() -> Any:
        while True:
            yield from ROWS

    stream = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(ProblemDataError, match="IterableDataset, which may have no end, allowed: one with a limit"):
        load_problems(stream)
    assert answers(stream, limit=2) == ["1", "2"]
    assert answers(stream, limit=6) == ["1", "2", "3", "4"]


def test_a_saved_folder_is_a_source_in_a_configuration(tmp_path: Path) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(one))
    datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS), test=datasets.Dataset.from_list(ROWS[:1])
    ).save_to_disk(str(several))
    assert answers(one) == answers(str(one)) == ["1", "2", "3", "4"]
    assert answers(str(several), split="test") == ["1"]
    with pytest.raises(ProblemDataError, match=r"found the split 'dev', allowed: train, test"):
        load_problems(several, split="dev")
    (one / "state.json").write_text("{")
    with pytest.raises(ProblemDataError, match="cannot be read as a folder of save_to_disk"):
        load_problems(one)


def test_a_trainer_takes_tables_and_tells_what_was_left_out_of_them() -> None:
    frame = pandas.DataFrame([*ROWS, {"problem": "What is 0 + 1?", "answer": "7"}])
    changes = {"algorithm.num_problems": 2, "problems.limit": None, "problems.eval_limit": 1}
    config = load_config(QUICKSTART, {**changes, "problems.verifier": "exact"})
    trainer = MASATrainer(
        config,
        problems=frame,
        eval_problems=datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
        console=Console(quiet=True),
    )
    assert len(trainer.prepared.train) == 4
    assert len(trainer.prepared.evaluation) == 1
    notes = "\n".join(trainer.prepared.notes)
    assert "problems: 1 duplicates left out" in notes
    assert "1 of the duplicates have another answer than the first row with their statement" in notes
    assert "rows 4" in notes


def test_problems_limit_holds_for_problems_given_in_python() -> None:
    config = load_config(None)
    assert len(load_rows(config, ROWS, "train", 3).problems) == 3
    problems = load_problems(ROWS).problems
    assert load_rows(config, problems, "train", 3).problems == problems[:3]
