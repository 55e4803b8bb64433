from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from masa.config import load_config
from masa.tracking.durations import duration
from masa.tracking.next_commands import next_commands
from masa.tracking.progress import Progress
from masa.tracking.shown import shown_metrics, trend
from masa.tracking.summary import print_summary

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def log_file() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=False, width=80), text


def terminal() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=100, _environ={"TERM": "xterm"}), text


def visible(text: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())


def test_a_log_file_gets_one_line_every_few_steps_with_the_first_and_the_last() -> None:
    console, text = log_file()
    with Progress(10, console=console, every=4) as progress:
        for step in range(1, 11):
            progress.step(step, {"reward/correctness": step / 10, "reward/r_meta": float("nan")})
    assert text.getvalue().splitlines() == [
        "step 1/10  correctness 0.100",
        "step 4/10  correctness 0.400",
        "step 8/10  correctness 0.800",
        "step 10/10  correctness 1.000",
    ]


def test_a_long_line_is_not_broken_in_a_log_file() -> None:
    console, text = log_file()
    with Progress(1, console=console) as progress:
        names = ("correctness", "r_meta", "r_length", "r_difficulty", "r_notion")
        progress.step(1, {f"reward/{name}": 0.5 for name in names})
    assert len(text.getvalue().splitlines()) == 1
    assert len(text.getvalue()) > 80


def test_a_resumed_run_starts_its_lines_where_it_resumed() -> None:
    console, text = log_file()
    with Progress(100, start_step=41, console=console) as progress:
        for step in range(42, 46):
            progress.step(step, {})
    assert [line.split()[1] for line in text.getvalue().splitlines()] == ["42/100", "45/100"]


def test_messages_keep_square_brackets() -> None:
    console, text = log_file()
    with Progress(1, console=console) as progress:
        progress.message("pool [red] restarted /home/[x]")
    assert text.getvalue() == "pool [red] restarted /home/[x]\n"


@pytest.mark.parametrize("make", [log_file, terminal])
def test_other_processes_are_silent(make) -> None:
    console, text = make()
    with Progress(2, console=console, enabled=False) as progress:
        progress.message("hello")
        progress.step(1, {"reward/r_meta": 0.5})
        progress.step(2, {"reward/r_meta": 0.5})
    assert text.getvalue() == ""


def test_a_terminal_shows_a_bar_and_the_first_and_last_tenth_of_each_metric() -> None:
    console, text = terminal()
    with Progress(20, console=console) as progress:
        for step in range(1, 21):
            progress.step(step, {"reward/r_length": float(step), "cost/tokens_generated": 1234.0})
    final = visible(text)[visible(text).rindex("first tenth") :]
    assert re.search(r"r_length +1\.500 +19\.500 ", final)
    assert re.search(r"tokens generated +1,234 +1,234 ", final)
    assert "20/20" in final
    assert "r_notion" not in final


def test_a_terminal_shows_the_newest_value_the_range_and_courses_as_wide_as_there_is_room() -> None:
    rows = [{"reward/correctness": step / 100} for step in range(1, 101)]
    widths = {}
    for width in (60, 100, 200):
        text = io.StringIO()
        console = Console(file=text, force_terminal=True, width=width, _environ={"TERM": "xterm"})
        with Progress(100, console=console, earlier=rows):
            pass
        line = next(line for line in visible(text).splitlines() if line.startswith("correctness"))
        assert re.search(r"correctness +0\.055 +0\.955 +1\.000", line)
        assert ("0.010 to 1.000" in line) == (width > 60)
        widths[width] = sum(line.count(block) for block in "▁▂▃▄▅▆▇█")
    assert widths[60] == 0 < widths[100] < widths[200]


def test_flat_groups_are_those_that_no_solution_or_every_solution_solves() -> None:
    rows = [{"rollout/solved_none": 0.25, "rollout/solved_all": 0.5}, {"rollout/solved_none": 0.125}]
    (flat,) = shown_metrics(rows)
    assert (flat.label, flat.values) == ("flat groups", (0.75,))


def test_a_sample_stands_below_the_table_until_the_next_one() -> None:
    console, text = terminal()
    with Progress(2, console=console) as progress:
        assert progress.shows_samples
        progress.sample("Problem in step 1: 2 + 3 [easy]")
        progress.step(1, {"reward/r_meta": 0.5})
    assert "Problem in step 1: 2 + 3 [easy]" in visible(text)
    plain, text = log_file()
    with Progress(1, console=plain) as progress:
        assert not progress.shows_samples


def test_a_resumed_table_remembers_how_the_run_began() -> None:
    console, text = terminal()
    earlier = [{"step": 1, "reward/r_length": 0.125}, {"step": 2, "reward/r_length": None}]
    with Progress(3, start_step=2, console=console, earlier=earlier) as progress:
        progress.step(3, {"reward/r_length": 0.75})
    assert re.search(r"r_length +0\.125 +0\.750", visible(text))


def test_the_display_is_taken_down_when_the_run_fails() -> None:
    console, text = terminal()
    progress = Progress(3, console=console)

    def run() -> None:
        with progress:
            progress.step(1, {"reward/r_meta": 0.5})
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    assert text.getvalue().endswith("\x1b[?25h")


def test_a_dumb_terminal_gets_plain_lines() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, _environ={"TERM": "dumb"})
    with Progress(1, console=console) as progress:
        progress.step(1, {"reward/r_meta": 0.5})
    assert text.getvalue() == "step 1/1  r_meta 0.500\n"


def test_a_trend_rises_from_the_lowest_to_the_highest_block() -> None:
    assert trend([float(i) for i in range(80)], width=8) == "▁▂▃▄▅▆▇█"
    assert trend([2.0, 2.0]) == "▄▄"


SUMMARY = {
    "accuracy_before": 0.25,
    "accuracy_after": 0.5,
    "r_length_first": 0.5,
    "r_length_last": 0.375,
    "r_notion_first": None,
    "r_notion_last": None,
    "steps": 40,
    "wall_seconds": 187.3,
    "tokens_generated": 1234567,
}


def test_the_summary_tells_before_after_and_change_time_tokens_and_figures(tmp_path) -> None:
    console, text = log_file()
    print_summary(SUMMARY, console, figures=tmp_path)
    shown = text.getvalue()
    assert re.search(r"held-out accuracy.* 0\.250 .* 0\.500 .* \+0\.250", shown)
    assert re.search(r"r_length .* 0\.500 .* 0\.375 .* -0\.125", shown)
    assert "40 steps, 3 min 07 s, 1,234,567 tokens generated" in shown
    assert f"Figures: {tmp_path}\n" in shown


def test_a_summary_leaves_out_what_a_run_does_not_have() -> None:
    console, text = log_file()
    print_summary(SUMMARY, console)
    assert "r_notion" not in text.getvalue()
    assert "Figures" not in text.getvalue()


def test_a_summary_ends_with_the_checkpoint_and_the_commands_that_come_next(tmp_path) -> None:
    console, text = log_file()
    commands = next_commands(tmp_path / "my run", load_config(QUICKSTART))
    print_summary(SUMMARY, console, checkpoint=tmp_path / "step_000040", commands=commands)
    *_, checkpoint, heading, report, evaluate, predict = text.getvalue().splitlines()
    assert checkpoint == f"Checkpoint: {tmp_path / 'step_000040'}"
    assert heading == "What comes next:"
    folder = f"'{tmp_path}/my run'"
    assert report == f"  masa report {folder} --out '{tmp_path}/my run/report.html'"
    assert evaluate == f"  masa evaluate --run {folder} --benchmarks embedded"
    assert predict == f"  masa predict --run {folder} 'Find the sum: a=12, b=30.'"


def test_a_model_that_is_not_the_embedded_one_is_evaluated_on_a_benchmark_of_its_own_kind(tmp_path) -> None:
    config = load_config(QUICKSTART, {"model.path": "Qwen/Qwen3-8B"})
    assert next_commands(tmp_path, config)[1].endswith("--benchmarks math500")


def test_a_summary_of_nothing_prints_nothing() -> None:
    console, text = log_file()
    print_summary({}, console)
    assert text.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.25, "4.2 s"), (59.99, "1 min 00 s"), (185, "3 min 05 s"), (7630, "2 h 07 min")]
)
def test_seconds_are_told_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
