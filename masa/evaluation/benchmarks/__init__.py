"""The declared benchmarks and the suites they form."""

from __future__ import annotations

from collections.abc import Iterable

from masa.evaluation.benchmark import Benchmark
from masa.evaluation.benchmarks.code import CODE
from masa.evaluation.benchmarks.embedded import EMBEDDED, EMBEDDED_LONG
from masa.evaluation.benchmarks.logic import LOGIC
from masa.evaluation.benchmarks.mathematics import MATHEMATICS
from masa.evaluation.benchmarks.science import SCIENCE
from masa.problems.errors import ProblemDataError, nearest

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (*MATHEMATICS, *LOGIC, *SCIENCE, *CODE, EMBEDDED, EMBEDDED_LONG)
}
SUITES: dict[str, tuple[str, ...]] = {
    "math": tuple(benchmark.name for benchmark in MATHEMATICS),
    "logic": tuple(benchmark.name for benchmark in LOGIC),
    "science": tuple(benchmark.name for benchmark in SCIENCE),
    "code": tuple(benchmark.name for benchmark in CODE),
    "evalplus": ("humaneval_plus", "mbpp_plus"),
    "all": tuple(benchmark.name for benchmark in (*MATHEMATICS, *LOGIC, *SCIENCE, *CODE)),
}


def resolve_benchmarks(names: str | Iterable[str]) -> list[Benchmark]:
    """The benchmarks of names and suites (a list, or one text with commas), each once, in the order asked for.

    Raises:
        ProblemDataError: a name that is neither; the message names what is allowed.
    """
    wanted = names.split(",") if isinstance(names, str) else names
    found: dict[str, Benchmark] = {}
    for name in (name.strip() for name in wanted):
        if name in SUITES:
            found.update((member, BENCHMARKS[member]) for member in SUITES[name])
        elif name in BENCHMARKS:
            found[name] = BENCHMARKS[name]
        else:
            raise ProblemDataError(
                f"benchmarks: found {name!r}{nearest(name, [*BENCHMARKS, *SUITES])}, allowed: the suites "
                f"{', '.join(SUITES)}, and {', '.join(BENCHMARKS)}"
            )
    return list(found.values())


def suite_of(name: str) -> str:
    """The suite that a benchmark belongs to; its own name for one that belongs to none."""
    return next((suite for suite in ("math", "logic", "science", "code") if name in SUITES[suite]), name)
