"""The embedded world's held-out problems: a benchmark that needs neither network nor files."""

from __future__ import annotations

from masa.evaluation.benchmark import Benchmark

EMBEDDED = Benchmark(
    name="embedded",
    title="Embedded arithmetic",
    split="test",
    columns=(),
    verifier="math",
    licence="Apache-2.0 (this project)",
    rows=256,
    template="embedded",
    meta_template="embedded",
    max_tokens=160,
    max_meta_tokens=96,
)
