"""The declared benchmarks and the suites they form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from masa.evaluation.benchmarks.benchmark import Benchmark
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


def resolve_benchmarks(
    names: str | Iterable[str],
    own: Mapping[str, Benchmark] | None = None,
    own_suites: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Benchmark]:
    """The benchmarks of names and suites (a list, or one text with commas), each once, in the order asked for.

    ``own`` and ``own_suites`` are of the user's own, beside those declared here.

    Raises:
        ProblemDataError: a name that is neither; the message names what is allowed.
    """
    wanted = names.split(",") if isinstance(names, str) else names
    benchmarks = {**BENCHMARKS, **(own or {})}
    suites = {**SUITES, **(own_suites or {})}
    found: dict[str, Benchmark] = {}
    for name in (name.strip() for name in wanted):
        if name in suites:
            found.update((member, benchmarks[member]) for member in suites[name])
        elif name in benchmarks:
            found[name] = benchmarks[name]
        else:
            raise ProblemDataError(
                f"benchmarks: found {name!r}{nearest(name, [*benchmarks, *suites])}, allowed: the suites "
                f"{', '.join(suites)}, and {', '.join(benchmarks)}"
            )
    return list(found.values())


def suite_of(name: str, own: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """The suite that a benchmark belongs to, perhaps of the user's ``own``; its own name for one of no suite."""
    known = {suite: SUITES[suite] for suite in ("math", "logic", "science", "code")} | dict(own or {})
    return next((suite for suite, members in known.items() if name in members), name)
