"""Whole evaluations: resumed, rescored, compared, on real files and with the embedded policy."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from masa.config import ConfigError, load_config
from masa.evaluate import main
from masa.evaluation.benchmarks import BENCHMARKS, resolve_benchmarks
from masa.evaluation.benchmarks.loading import DataChoice, load_benchmark
from masa.evaluation.results.terminal import print_results
from masa.evaluation.running.runner import run_evaluation
from masa.evaluation.running.settings import Budget, EvaluationSettings, benchmark_config
from masa.evaluation.running.store import EvaluationStore
from masa.rewards import VerifierPool
from masa.rollout.engine import RolloutRequest

SHARED = Path(__file__).parents[3] / "shared" / "data"
LOGIC = "prontoqa,proofwriter,folio,logicaldeduction,ar_lsat"
META = '<meta>hm</meta>{"notions": ["parity"], "pass_rate": 6, "solution_length": 5}'


def _settings(names: str = "minerva", budget: Budget | None = None, **data: Any) -> EvaluationSettings:
    return EvaluationSettings(
        config=load_config(),
        benchmarks=tuple(resolve_benchmarks(names)),
        budget=budget or Budget(samples=4, metas=2, batch_size=12),
        data=DataChoice(**data),
        resamples=200,
    )


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    """Ten problems whose answers are 0 to 9, as a file of Minerva's columns."""
    path = tmp_path / "minerva.jsonl"
    path.write_text("".join(json.dumps({"question": f"Count to {i}.", "answer": str(i)}) + "\n" for i in range(10)))
    return {"minerva": path}


def _half_right(request: RolloutRequest, index: int) -> str:
    """Problem i is solved by its first i % 5 samples."""
    number = int(request.problem_id.partition("/")[2])
    if request.path == "meta":
        return META
    return rf"\boxed{{{number if index < number % 5 else 77}}}"


def _files(folder: Path) -> dict[str, bytes]:
    names = ("results.json", "results.md", "samples/minerva.jsonl", "details/minerva.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def test_all_metrics_of_a_small_benchmark(tmp_path: Path, rows: dict[str, Path], scripted: Any) -> None:
    policy, engine = scripted(_half_right)
    results = run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)
    found = results["benchmarks"]["minerva"]
    # Correct of 4: 0, 1, 2, 3, 4 twice over.
    assert found["metrics"]["pass@1"]["value"] == pytest.approx(0.5)
    assert found["metrics"]["pass@4"]["value"] == pytest.approx(0.8)
    # C(2,2)/C(4,2) = 1/6 of the pairs miss where 2 are right, 3/6 where 1 is, none else, all where none is.
    assert found["metrics"]["pass@2"]["value"] == pytest.approx((0 + 3 / 6 + 5 / 6 + 1 + 1) / 5)
    assert found["metrics"]["majority@4"]["value"] == pytest.approx((0 + 0 + 0.5 + 1 + 1) / 5)
    assert found["metrics"]["pass@1"]["low"] < 0.5 < found["metrics"]["pass@1"]["high"]
    assert found["meta"]["metrics"]["pass_rate_error"]["value"] == pytest.approx((0.75 + 0.5 + 0.25 + 0 + 0.25) / 5)
    assert found["meta"]["metrics"]["parse_rate"]["value"] == 1.0
    assert found["verdicts"] == {"correct": 20, "incorrect": 20}
    assert results["results"]["minerva"]["pass@1,none"] == pytest.approx(0.5)
    assert results["n-samples"]["minerva"] == {"original": 272, "effective": 10}
    assert "| Minerva Math | 10 | 50.0 [" in (tmp_path / "out" / "results.md").read_text()
    assert {request.sampling.temperature for request in engine.requests} == {0.6}


def test_a_killed_evaluation_goes_on_to_the_same_result(tmp_path: Path, rows: dict[str, Path], scripted: Any) -> None:
    settings = _settings(files=rows)
    policy, whole = scripted(_half_right)
    run_evaluation(settings, tmp_path / "whole", policy=policy)

    policy, engine = scripted(_half_right)
    engine.fail_after = 12
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(settings, tmp_path / "cut", policy=policy)
    samples = tmp_path / "cut" / "samples" / "minerva.jsonl"
    before = samples.read_bytes()
    # A kill in mid-write tears the last line.
    samples.write_bytes(before[:-20])
    policy, engine = scripted(_half_right)
    run_evaluation(settings, tmp_path / "cut", policy=policy)
    assert _files(tmp_path / "cut") == _files(tmp_path / "whole")
    # Only what was missing, and the torn chunk as a whole, was generated again.
    assert 0 < len(engine.requests) < len(whole.requests)


def test_a_finished_evaluation_is_scored_again_without_a_model(
    tmp_path: Path, rows: dict[str, Path], scripted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, _ = scripted(_half_right)
    run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)
    before = _files(tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    assert main(["--rescore", "--out", str(tmp_path / "out")]) == 0
    assert _files(tmp_path / "out") == before
    samples = tmp_path / "out" / "samples" / "minerva.jsonl"
    samples.write_bytes(b"".join(samples.read_bytes().splitlines(keepends=True)[:-1]))
    assert main(["--rescore", "--out", str(tmp_path / "out")]) == 2
    assert "1 of 60 samples are missing" in capsys.readouterr().err


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path, rows: dict[str, Path], scripted: Any) -> None:
    policy, _ = scripted(_half_right)
    run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)
    other = _settings(budget=Budget(samples=8, metas=2, batch_size=12), files=rows)
    with pytest.raises(ConfigError, match="samples: it has 4, found 8"):
        run_evaluation(other, tmp_path / "out", policy=policy)


def test_samples_of_a_statement_that_changed_are_refused(tmp_path: Path, rows: dict[str, Path], scripted: Any) -> None:
    policy, _ = scripted(_half_right)
    run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)
    rows["minerva"].write_text(rows["minerva"].read_text().replace("Count to 3.", "Count to three."))
    with pytest.raises(ConfigError, match="'minerva/3' answer another statement"):
        run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)


def test_a_benchmark_added_later_stands_beside_the_earlier_one(
    tmp_path: Path, rows: dict[str, Path], scripted: Any
) -> None:
    policy, _ = scripted(_half_right)
    run_evaluation(_settings(files=rows), tmp_path / "out", policy=policy)
    files = {"aime24": tmp_path / "aime.jsonl"}
    files["aime24"].write_text(json.dumps({"id": 3, "problem": "Three?", "answer": "3"}) + "\n")
    results = run_evaluation(_settings("aime24", files=files), tmp_path / "out", policy=policy)
    assert list(results["benchmarks"]) == ["aime24", "minerva"]


def test_two_models_are_compared_on_the_same_problems(tmp_path: Path, rows: dict[str, Path], scripted: Any) -> None:
    policy, _ = scripted(_half_right)
    run_evaluation(_settings(files=rows), tmp_path / "a", policy=policy)
    policy, _ = scripted(lambda request, index: rf"\boxed{{{request.problem_id.partition('/')[2]}}}")
    results = run_evaluation(_settings(files=rows), tmp_path / "b", policy=policy, compare=[tmp_path / "a"])
    found = results["comparisons"][str(tmp_path / "a")]["minerva"]
    assert found["value"] == pytest.approx(0.5)
    assert found["problems"] == 10
    # 8 problems differ, all for the better: 2 of 2**8 sign patterns are as extreme.
    assert found["p_value"] == pytest.approx(2 / 256)
    assert "## Difference to" in (tmp_path / "b" / "results.md").read_text()
    text = io.StringIO()
    print_results(results, Console(file=text, width=40))
    compared = text.getvalue().splitlines()[-1]
    assert re.search(r"^Minerva.* 10 +a +50\.0 \[.*\] +0\.0078\s*$", compared)


def test_a_template_of_the_runs_own_goes_before_the_benchmarks() -> None:
    own = load_config(overrides=["prompts.solution=Do {{ problem }}"])
    settings = EvaluationSettings(config=own, benchmarks=(BENCHMARKS["embedded"],))
    config = benchmark_config(settings, BENCHMARKS["embedded"])
    assert config.prompts.solution == "Do {{ problem }}"
    assert config.prompts.meta == "embedded"
    assert config.rollout.max_solution_tokens == 160


@pytest.mark.parametrize("right", [True, False])
def test_the_logic_files_go_through_end_to_end(tmp_path: Path, scripted: Any, right: bool) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    settings = _settings(LOGIC, Budget(samples=1, metas=1, batch_size=512), folder=SHARED)
    gold = {
        problem.id: str(problem.answer)
        for benchmark in settings.benchmarks
        for problem in load_benchmark(benchmark, settings.data)
    }

    def answer(request: RolloutRequest, index: int) -> str:
        letter = gold[request.problem_id]
        return META if request.path == "meta" else f"So the answer is ({letter if right else chr(ord(letter) + 1)})."

    policy, _ = scripted(answer)
    results = run_evaluation(settings, tmp_path / "out", policy=policy)
    found = results["benchmarks"]
    assert {name: one["problems"] for name, one in found.items()} == {
        "prontoqa": 500, "proofwriter": 600, "folio": 204, "logicaldeduction": 300, "ar_lsat": 231,
    }  # fmt: skip
    assert {one["metrics"]["pass@1"]["value"] for one in found.values()} == {float(right)}
    assert results["suites"]["logic"] == {"pass@1": float(right), "benchmarks": 5}


def _mbpp_items(limit: int | None, *, emptied: bool) -> list[dict[str, Any]]:
    problems = load_benchmark(BENCHMARKS["mbpp"], DataChoice(folder=SHARED, limit=limit))
    items = []
    for problem in problems:
        assert problem.solution is not None
        names = re.findall(r"^def\s+(\w+)", problem.solution, re.MULTILINE)
        program = "".join(f"def {name}(*args):\n    return None\n\n" for name in names) if emptied else problem.solution
        response = f"Here it is.\n```python\n{program}\n```"
        items.append({"verifier": problem.verifier, "response": response, "answer": problem.answer})
    return items


def _verify(items: Sequence[dict[str, Any]]) -> list[bool]:
    with VerifierPool(workers=2, time_limit=60.0, memory_limit_mb=2048) as pool:
        return [verdict.correct for verdict in pool.verify(items)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("limit", [20, pytest.param(None, marks=pytest.mark.slow)])
def test_mbpp_reference_solutions_pass_their_tests_and_emptied_ones_fail(limit: int | None) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    reference = _verify(_mbpp_items(limit, emptied=False))
    emptied = _verify(_mbpp_items(limit, emptied=True))
    assert len(reference) == (limit or 500)
    assert [number for number, passed in enumerate(reference) if not passed] == []
    assert [number for number, passed in enumerate(emptied) if passed] == []


def test_the_embedded_policy_is_evaluated_with_all_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "embedded", "--benchmarks", "embedded", "--limit", "8", "--samples", "4", "--metas", "2"]
    arguments += ["--batch-size", "24", "--max-tokens", "80", "--resamples", "200"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    found = results["benchmarks"]["embedded"]
    assert set(found["metrics"]) == {
        "pass@1", "pass@2", "pass@4", "majority@4", "mean_length", "median_length", "truncated",
    }  # fmt: skip
    assert 0 < found["metrics"]["pass@1"]["value"] <= 1
    assert {"pass_rate_pearson", "length_error", "notion_precision", "parse_rate"} <= set(found["meta"]["metrics"])
    store = EvaluationStore(tmp_path / "a")
    assert len(store.read_outcomes("embedded")) == 8
    shown = capsys.readouterr().out
    accuracy = found["metrics"]["pass@1"]
    value, low, high = (f"{100 * accuracy[key]:.1f}" for key in ("value", "low", "high"))
    assert re.search(rf"pass@1, % +{re.escape(f'{value} [{low}, {high}]')}", shown)
    assert re.search(r"metas parsed, % +\d", shown)
    assert re.search(r"majority@4, % +\d", shown)


# Engines whose greedy responses must be the same; an engine that is not installed is left out.
ENGINES = [
    "transformers",
    pytest.param("vllm", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_responses_do_not_depend_on_engine_or_batch(engine: str, tmp_path: Path) -> None:
    if engine == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed here")
    arguments = ["--model", "embedded", "--benchmarks", "embedded", "--limit", "6", "--samples", "1", "--metas", "1"]
    arguments += ["--temperature", "0", "--resamples", "100", "--max-tokens", "80", "--max-meta-tokens", "64"]
    reference = [*arguments, "--engine", "transformers", "--batch-size", "12", "--out", str(tmp_path / "reference")]
    other = [*arguments, "--engine", engine, "--batch-size", "3", "--out", str(tmp_path / "other")]
    assert main(reference) == 0
    assert main(other) == 0
    for name in ("samples/embedded.jsonl", "details/embedded.jsonl"):
        first, second = (
            sorted((tmp_path / folder / name).read_text().splitlines()) for folder in ("reference", "other")
        )
        assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "math"], "--model: "),
        (["--model", "embedded", "--run", "x", "--benchmarks", "math"], "--model and --run"),
        (["--model", "embedded"], "--benchmarks: names or suites"),
        (["--model", "embedded", "--benchmarks", "maths"], "nearest: 'math'"),
        (["--model", "embedded", "--benchmarks", "folio"], "--data folio=PATH"),
        (["--model", "embedded", "--benchmarks", "folio", "--data-dir", "/nowhere"], "/nowhere is no folder"),
        (["--model", "embedded", "--benchmarks", "embedded", "--samples", "0"], "--samples: found 0"),
        (["--model", "embedded", "--benchmarks", "embedded", "--engine", "other"], "rollout.engine"),
        (["--model", "embedded", "--benchmarks", "embedded", "--trivial", "0"], "thresholds: "),
        (["--model", "embedded", "--benchmarks", "embedded", "--compare", "/nowhere"], "/nowhere holds no evaluation"),
        (["--rescore"], "holds no evaluation: there is no settings.json"),
    ],
)
def test_a_mistake_is_told_in_one_message_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "samples").exists()
