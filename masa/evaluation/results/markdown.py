"""results.md: the tables of an evaluation as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_LENGTHS = ("mean_length", "median_length", "length_error")
_META_COLUMNS = {
    "pass_rate_pearson": "pass rate r",
    "pass_rate_spearman": "ρ",
    "pass_rate_error": "pass rate error",
    "length_pearson": "length r",
    "length_error": "length error (tokens)",
    "notion_precision": "notion precision",
    "parse_rate": "parsed",
}


def results_markdown(results: Mapping[str, Any]) -> str:
    """The Markdown text: accuracy and lengths, meta-awareness, comparisons."""
    benchmarks = results["benchmarks"]
    config = results["config"]
    parts = [
        f"# Evaluation of {results['model_name']}",
        f"{config['samples']} samples and {config['metas']} meta-predictions a problem, temperature "
        f"{config['temperature']}, top-p {config['top_p']}, at most {config['max_tokens']:,} tokens, seed "
        f"{config['seed']}. In brackets: 95 % bootstrap intervals over problems. Rates in per cent, lengths in tokens.",
        "## Accuracy",
        _accuracy_table(benchmarks),
    ]
    if results["suites"]:
        rows = [
            [suite, str(found["benchmarks"]), f"{100 * found['pass@1']:.1f}"]
            for suite, found in results["suites"].items()
        ]
        parts += ["## Suites", table(["suite", "benchmarks", "mean pass@1"], rows)]
    with_meta = {name: found for name, found in benchmarks.items() if "meta" in found}
    if with_meta:
        parts += ["## Meta-awareness", _meta_table(with_meta), "## Controls", _control_table(with_meta)]
    for other, found in results["comparisons"].items():
        parts += [f"## Difference to {other}", _comparison_table(found, benchmarks)]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_interval(name: str, estimate: Mapping[str, Any]) -> str:
    """``45.3 [40.1, 50.2]``: a rate in per cent, a correlation or a length as it is."""
    value = estimate["value"]
    if value is None or math.isnan(value):
        return "–"
    if name in _LENGTHS:
        shown, scale = "{:,.0f}", 1.0
    elif name.endswith(("pearson", "spearman")):
        shown, scale = "{:.2f}", 1.0
    else:
        shown, scale = "{:.1f}", 100.0
    text = shown.format(scale * value)
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return text
    return f"{text} [{shown.format(scale * low)}, {shown.format(scale * high)}]"


def _accuracy_table(benchmarks: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for found in benchmarks.values() for name in found["metrics"]))
    rows = [
        [found["title"], str(found["problems"])]
        + [with_interval(name, found["metrics"][name]) if name in found["metrics"] else "–" for name in names]
        for found in benchmarks.values()
    ]
    return table(["benchmark", "problems", *(name.replace("_", " ") for name in names)], rows)


def _meta_table(benchmarks: Mapping[str, Any]) -> str:
    rows = [
        [found["title"], *(with_interval(name, found["meta"]["metrics"][name]) for name in _META_COLUMNS)]
        for found in benchmarks.values()
    ]
    return table(["benchmark", *_META_COLUMNS.values()], rows)


def _control_table(benchmarks: Mapping[str, Any]) -> str:
    rows = []
    for found in benchmarks.values():
        cells = [found["title"]]
        for control in ("gate", "cutoff"):
            counts = found["meta"][control]
            cells += [_per_cent(counts[key]) for key in ("flagged", "precision", "recall")] + [_number(counts["f1"])]
        rows.append(cells)
    header = [f"{control} {key}" for control in ("gate", "cutoff") for key in ("share", "precision", "recall", "F1")]
    return table(["benchmark", *header], rows)


def _comparison_table(found: Mapping[str, Any], benchmarks: Mapping[str, Any]) -> str:
    rows = [
        [
            benchmarks.get(name, {}).get("title", name),
            str(one["problems"]),
            with_interval("pass@1", one),
            f"{one['p_value']:.4f}",
        ]
        for name, one in found.items()
    ]
    return table(["benchmark", "shared problems", "difference in pass@1 (points)", "p (permutation)"], rows)


def _per_cent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
