"""The embedded worlds' held-out problems: benchmarks that need neither network nor files."""

from __future__ import annotations

from masa.evaluation.benchmarks.benchmark import Benchmark

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
EMBEDDED_LONG = Benchmark(
    name="embedded_long",
    title="Embedded chains",
    split="test",
    columns=(),
    verifier="math",
    licence="Apache-2.0 (this project)",
    rows=256,
    template="embedded:long",
    meta_template="embedded:long",
    max_tokens=240,
    max_meta_tokens=32,
)
# The source of `problems.eval` that holds the same problems.
EMBEDDED_BENCHMARKS = {EMBEDDED.name: "embedded:test", EMBEDDED_LONG.name: "embedded:long:test"}
