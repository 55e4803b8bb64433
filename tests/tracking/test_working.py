"""What is shown while something takes a while: loading, evaluating, verifying."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from masa.evaluation.running import progress as evaluation_progress_module
from masa.evaluation.running.progress import evaluation_progress
from masa.tracking import working as working_module
from masa.tracking.progress import Progress
from masa.tracking.working import working


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=80, _environ={}), text


def _clock(monkeypatch: pytest.MonkeyPatch, module: object, seconds: list[float]) -> None:
    times = iter(seconds)
    # The module's own name: threads of other tests go on reading the real clock.
    monkeypatch.setattr(module, "monotonic", lambda: next(times))


@pytest.mark.parametrize(("seconds", "end"), [(3.0, ""), (75.0, "Loading the model x: done in 1 min 15 s\n")])
def test_in_a_log_loading_is_a_line_and_a_long_one_says_when_it_is_done(
    seconds: float, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _clock(monkeypatch, working_module, [0.0, seconds])
    console, text = _console(terminal=False)
    with working(console, "Loading the model x"):
        assert text.getvalue() == "Loading the model x\n"
    assert text.getvalue() == f"Loading the model x\n{end}"


def test_on_a_terminal_loading_has_a_clock_that_is_gone_afterwards() -> None:
    console, text = _console(terminal=True)
    with working(console, "Loading the model [x]"):
        console.print("a line of the engine")
    assert "Loading the model [x]" in text.getvalue()
    assert "0:00:00" in text.getvalue()
    # The last line that was drawn is erased.
    assert text.getvalue().endswith("\x1b[2K")


def test_processes_but_the_first_show_nothing_while_they_load() -> None:
    with working(None, "Loading"):
        done = True
    assert done


def test_in_a_log_an_evaluation_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # The beginning, and then one reading of the clock for each count.
    _clock(monkeypatch, evaluation_progress_module, [0.0, 1.0, 20.0, 40.0, 50.0, 90.0])
    console, text = _console(terminal=False)
    with evaluation_progress(console) as progress:
        advance = progress("Sums", 100)
        for count in (20, 10, 10, 10, 50):
            advance(count)
    # 20 were there before; the other 20 took 40 seconds, so the 60 that are left take 120. The end has no line.
    assert text.getvalue() == "Sums: 40 of 100 samples, about 2 min 00 s left\n"


def test_on_a_terminal_an_evaluation_has_a_bar_for_each_benchmark() -> None:
    console, text = _console(terminal=True)
    with evaluation_progress(console) as progress:
        progress("Sums", 4)(4)
    assert "Sums" in text.getvalue()
    assert "4/4" in text.getvalue()


def test_the_live_view_of_a_run_names_what_is_being_done() -> None:
    console, text = _console(terminal=True)
    with Progress(3, 0, console) as progress:
        progress.phase("evaluating 8 held-out problems")
        progress.announce("Evaluating before the first step")
    assert "evaluating 8 held-out problems" in text.getvalue()
    assert "Evaluating before" not in text.getvalue()
    console, text = _console(terminal=False)
    with Progress(3, 0, console) as progress:
        progress.phase("evaluating 8 held-out problems")
        progress.announce("Evaluating before the first step")
    assert text.getvalue() == "Evaluating before the first step\n"
