"""The page: written by one command, whole in itself, and loaded in a real browser."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from masa.config import Config, dump_config
from masa.evaluate import main as evaluate
from masa.report import main
from masa.reporting.groups import group_runs
from masa.reporting.page import figures_of, render
from masa.reporting.runs import read_run_directory
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory
from masa.train import main as train

ROOT = Path(__file__).parents[2]

FIGURES = (
    "accuracy",
    "predicted_vs_actual",
    "baselines",
    "predicted_and_actual",
    "rewards",
    "gating",
    "contributions",
    "calibration",
)

# What Chromium asks for on its own account, whatever it shows: the time, updates of its components.
_OF_THE_BROWSER = re.compile(r"https?://([\w-]+\.)*(google\.com|googleapis\.com|gvt1\.com)/")

# Appended to a copy of the page: writes what the browser sees into the page itself, for --dump-dom to print.
_PROBE = """
<script>
window.problems = [];
window.addEventListener("error", event => window.problems.push(String(event.message)));
document.addEventListener("securitypolicyviolation", event => window.problems.push("blocked " + event.blockedURI));
window.addEventListener("load", () => {
  const figures = {};
  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    figures[figure.dataset.figure] = [...figure.querySelectorAll("svg")].map(svg => {
      const box = svg.getBoundingClientRect(), drawn = svg.getBBox();
      return {width: box.width, height: box.height, drawn: drawn.width * drawn.height,
              paths: svg.querySelectorAll("path").length};
    });
  }
  const seen = {
    figures, problems: window.problems, title: document.title,
    requested: performance.getEntriesByType("resource").map(entry => entry.name),
    page: document.documentElement.scrollWidth, window: window.innerWidth,
  };
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
});
</script>
"""


@pytest.fixture(scope="module")
def report(run_dirs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert main([*map(str, run_dirs), "--out", str(out), "--title", "Three <methods>"]) == 0
    return out


def _look(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Load a page with the probe in headless Chromium, and return what it saw and asked the network for."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed here")
    probed = page.replace("style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'", 1)
    assert probed != page
    (folder / "probed.html").write_text(probed.replace("</head>", f"{_PROBE}</head>", 1), encoding="utf-8")
    log = folder / "network.json"
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            f"--log-net-log={log}",
            "--dump-dom",
            (folder / "probed.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page did not finish loading: {done.stderr[-500:]}"
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    urls = re.findall(r'"url":"((?:https?|wss?|ftp):[^"]*)"', log.read_text(encoding="utf-8", errors="replace"))
    seen["network"] = sorted({url for url in urls if not _OF_THE_BROWSER.match(url)})
    return seen


def test_every_figure_renders_in_a_browser_and_nothing_is_requested(report: Path, tmp_path: Path) -> None:
    seen = _look(report.read_text(encoding="utf-8"), tmp_path, 1280)
    assert set(seen["figures"]) == set(FIGURES)
    for panels in seen["figures"].values():
        assert panels
        for panel in panels:
            assert panel["width"] > 150
            assert panel["height"] > 80
            assert panel["drawn"] > 0
            assert panel["paths"] > 5
    assert seen["problems"] == []
    assert seen["requested"] == []
    assert seen["network"] == []
    assert seen["title"] == "Three <methods>"
    assert seen["page"] <= seen["window"]


def test_the_page_fits_a_phone(report: Path, tmp_path: Path) -> None:
    # Headless windows have a smallest width, so the page is put into a frame as wide as a phone.
    seen = _look(report.read_text(encoding="utf-8").replace("<body>", '<body style="width:375px">'), tmp_path, 375)
    for panels in seen["figures"].values():
        assert all(300 < panel["width"] <= 375 for panel in panels)
    assert seen["page"] <= seen["window"]


def test_a_page_that_asks_for_something_outside_is_caught(report: Path, tmp_path: Path) -> None:
    tampered = report.read_text(encoding="utf-8").replace(
        "</main>", '<img src="http://127.0.0.1:9/outside.png"></main>'
    )
    seen = _look(tampered, tmp_path, 800)
    assert any("outside.png" in text for text in [*seen["problems"], *seen["requested"], *seen["network"]])


def test_the_page_names_no_address_outside(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert not re.search(r"url\((?!#)", page)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_each_figure_has_a_png_and_a_csv(report: Path) -> None:
    folder = report.with_name("report_figures")
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with (folder / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert all(len(row) == len(rows[0]) for row in rows)


def test_ids_in_the_page_are_distinct(report: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', report.read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids))


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "MASA-efficient", 0, steps=3)
    groups = group_runs([read_run_directory(run)])
    assert render(groups, figures_of(groups), "one") == render(groups, figures_of(groups), "one")


def test_a_run_that_just_began_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "MASA", 0, steps=1)
    for name in ("samples.jsonl", "predictions.jsonl", "evaluation.jsonl", "summary.json"):
        (run / name).unlink()
    jsonl.write_atomically(run / "metrics.jsonl", b'{"step": 0}\n')
    assert main([str(run), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    # What the run does not have yet is absent, from the page and from its list of contents.
    assert re.findall(r'<section id="(\w+)"', page) == ["overview", "cost", "runs"]
    assert re.findall(r'<a href="#(\w+)"', page) == ["cost", "runs"]


def test_the_head_says_what_the_runs_were_made_with(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "GRPO", 0, steps=3)
    made = {"time": "2026-01-02T03:04:05+00:00", "platform": "Linux-6", "cpu_count": 4,
            "git": {"commit": "0123456789abcdef", "modified": True}, "packages": {"masa-rl": "1.2.3"}}  # fmt: skip
    (run / "environment.json").write_text(json.dumps(made))
    page = render(group_runs([read_run_directory(run)]), [], "one")
    head = page[page.index('<dl class="made">') : page.index("<nav>")]
    for told in ("embedded:train", "Linux-6, 4 CPU cores", "1.2.3, commit 0123456789ab with changes", "2026-01-02"):
        assert f"<dd>{told}</dd>" in head


def test_a_method_without_metas_shows_its_solutions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "MASA", 0, steps=3)
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["path"] == "solution"]
    (run / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    page = render(group_runs([read_run_directory(run)]), [], "one")
    assert "Samples: solutions of the last steps" in page
    assert "a=3; b:3+2=5" in page
    assert "best and worst" not in page


def test_a_run_given_twice_is_one_run_and_names_are_shown_everywhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "GRPO", 0, steps=3)
    name = "plain policy optimisation with a name that is not cut"
    out = tmp_path / "report.html"
    assert main([str(run), f"{run}/", "--name", f"{run}={name}", "--out", str(out)]) == 0
    page = out.read_text()
    assert f"{name}</label> <small>1 run</small>" in page
    assert "…" not in re.sub(r"<script.*?</script>", "", page)
    rows = (tmp_path / "report_figures" / "accuracy.csv").read_text()
    assert name in rows


@pytest.mark.parametrize("named", ["nowhere=x", "x", "=x"])
def test_a_name_for_no_run_is_a_mistake(named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", "GRPO", 0, steps=1)
    assert main([str(run), "--name", named, "--out", str(tmp_path / "report.html")]) == 2
    assert "--name: found" in capsys.readouterr().err


def test_a_method_can_be_hidden_and_points_say_their_values(report: Path, tmp_path: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "<title>MASA, step 40" in page
    hidden = page.replace('id="show-group-1" checked', 'id="show-group-1"')
    before, after = (_look(one, tmp_path, 1280)["figures"]["accuracy"][0]["paths"] for one in (page, hidden))
    assert before == after
    assert "body:has(#show-group-1:not(:checked)) .group-1 { display: none; }" in page
    assert 'class="group-1"' in page


def test_evaluations_inside_and_beside_runs_are_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "MASA", 0, steps=3)
    arguments = ["--model", "embedded", "--benchmarks", "embedded", "--limit", "5", "--samples", "2", "--metas", "1"]
    arguments += ["--max-tokens", "64", "--resamples", "50"]
    assert evaluate([*arguments, "--out", str(run / "evaluation" / "step-3")]) == 0
    assert evaluate([*arguments, "--seed", "1", "--out", str(tmp_path / "base")]) == 0
    assert main([str(tmp_path / "base"), str(run), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Embedded arithmetic: paired differences to embedded" in page
    assert "MASA, step-3" in page
    assert main([str(tmp_path / "base"), "--out", str(tmp_path / "alone.html")]) == 0


def test_a_folder_that_is_no_run_is_a_mistake_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "report.html")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_folder_as_out_is_refused_with_a_file_to_take_and_nothing_is_left(
    run_dirs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reports"
    out.mkdir()
    assert main([str(run_dirs[0]), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert f"--out: found the folder {out}, a file needed, such as {out}/report.html" in message
    assert list(tmp_path.iterdir()) == [out]
    assert list(out.iterdir()) == []


def test_the_name_given_to_training_is_what_the_report_calls_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorded:
        def __init__(self, config: Config) -> None:
            RunDirectory(config.run.dir).create(dump_config(config), resume=False)
            jsonl.append_rows(RunDirectory(config.run.dir).metrics, [{"step": 1}])

        def train(self, *, resume: bool) -> None:
            assert not resume

    monkeypatch.setattr("masa.trainer.MASATrainer", Recorded)
    config = str(ROOT / "configs" / "quickstart_grpo.yaml")
    assert train(["--config", config, "--name", "nightly: 3", f"run.dir={tmp_path / 'run'}"]) == 0
    (group,) = group_runs([read_run_directory(tmp_path / "run")])
    assert group.label == "nightly: 3"
