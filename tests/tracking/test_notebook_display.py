"""Progress in a notebook: one HTML display, updated in place."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from rich.console import Console

from masa.tracking.notebook import NotebookView, progress_html
from masa.tracking.progress import Progress
from masa.tracking.shown import shown_metrics


class Cell:
    """Stands in for a notebook's front end: keeps each display's newest content."""

    def __init__(self) -> None:
        self.displays: list[str] = []
        self.updates = 0

    def display(self, html: str, *, display_id: bool) -> Any:
        assert display_id
        self.displays.append(html)
        return Handle(self, len(self.displays) - 1)


class Handle:
    def __init__(self, cell: Cell, index: int) -> None:
        self._cell, self._index = cell, index

    def update(self, html: str) -> None:
        self._cell.updates += 1
        self._cell.displays[self._index] = html


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    # The clock stands still: after the first update only what a pause shows comes through.
    view = NotebookView(cell.display, str, clock=lambda: 100.0)
    monkeypatch.setattr(NotebookView, "of", classmethod(lambda cls, console: view))
    return cell


def notebook() -> Console:
    return Console(force_jupyter=True)


def test_a_run_is_one_display_that_holds_its_last_state(cell: Cell) -> None:
    with Progress(4, console=notebook()) as progress:
        progress.message("Resumed <from> step 0")
        for step in range(1, 5):
            progress.step(step, {"reward/correctness": step / 4})
    assert len(cell.displays) == 1
    shown = cell.displays[0]
    assert "step 4 of 4" in shown
    assert "Resumed &lt;from&gt; step 0" in shown
    assert re.search(r"correctness</td><td[^>]*>0\.250</td><td[^>]*>1\.000</td><td[^>]*>1\.000", shown)
    assert "0.250 to 1.000" in shown
    assert shown.count("<polyline") == 1


def test_updates_that_come_too_soon_wait_for_the_next(cell: Cell) -> None:
    with Progress(50, console=notebook()) as progress:
        for step in range(1, 51):
            progress.step(step, {})
    assert cell.updates == 2
    assert "step 50 of 50" in cell.displays[0]


def test_steps_in_the_next_cell_have_a_display_there(cell: Cell) -> None:
    with Progress(2, console=notebook()) as progress:
        progress.step(1, {})
        progress.pause()
        progress.go_on()
        progress.step(2, {})
    assert ["step 1 of 2" in cell.displays[0], "step 2 of 2" in cell.displays[1]] == [True, True]


def test_what_is_shown_is_well_formed_and_brings_its_own_styles() -> None:
    metrics = shown_metrics([{"reward/r_meta": value, "policy/entropy": 1.0} for value in (0.1, 0.5, 0.3)])
    html = progress_html(3, 9, metrics, 75.0, ["a <b> & c"], "Solution: 1 < 2")
    root = ElementTree.fromstring(html)
    assert "step 3 of 9, about 1 min 15 s left" in "".join(root.itertext())
    assert "Solution: 1 < 2" in "".join(root.itertext())
    lines = [one.attrib["points"].split() for one in root.iter("polyline")]
    heights = [[float(point.partition(",")[2]) for point in line] for line in lines]
    # SVG counts from the top: the lowest value has the largest coordinate, and equal values are one height.
    assert heights[0][0] == max(heights[0])
    assert heights[0][1] == min(heights[0])
    assert len(set(heights[1])) == 1
    assert "<script" not in html
    assert "class=" not in html


def test_a_run_of_one_step_has_a_plot() -> None:
    (metric,) = shown_metrics([{"reward/r_meta": 0.5}])
    html = progress_html(1, 1, [metric], None)
    points = ElementTree.fromstring(html).find(".//polyline")
    assert points is not None
    assert len(points.attrib["points"].split()) == 2
    assert "left" not in "".join(ElementTree.fromstring(html).itertext())


_IN_IPYTHON = """
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from rich.console import Console
from masa.tracking.progress import Progress

InteractiveShell.instance()
with capture_output() as captured, Progress(2, console=Console(force_jupyter=True)) as progress:
    progress.step(1, {"reward/correctness": 0.5})
    progress.step(2, {"reward/correctness": 0.75})
assert [one.update for one in captured.outputs] == [False] + [True] * (len(captured.outputs) - 1)
assert len({one.transient["display_id"] for one in captured.outputs}) == 1
print(captured.stdout + captured.stderr + captured.outputs[-1].data["text/html"])
"""


def test_ipython_updates_one_display_and_needs_no_widgets() -> None:
    pytest.importorskip("IPython", reason="needs ipython (the extra dev)")
    done = subprocess.run([sys.executable, "-c", _IN_IPYTHON], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<div")
    assert "step 2 of 2" in done.stdout
    assert "ipywidgets" not in done.stderr


def test_other_consoles_and_a_python_without_ipython_get_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NotebookView.of(Console(force_jupyter=False)) is None
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    assert NotebookView.of(Console(force_jupyter=True)) is None
