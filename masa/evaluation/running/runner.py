"""One evaluation from beginning to end: load, generate what is missing, score, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from masa.config import ConfigError
from masa.evaluation.benchmarks import BENCHMARKS
from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.benchmarks.loading import load_benchmark
from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.results.markdown import results_markdown
from masa.evaluation.results.summary import all_results, benchmark_results, comparison
from masa.evaluation.running.fitting import require_evaluation_fits
from masa.evaluation.running.generation import Policy, generate_missing, missing_chunks, sample_keys
from masa.evaluation.running.progress import evaluation_progress
from masa.evaluation.running.scoring import score
from masa.evaluation.running.settings import EvaluationSettings, benchmark_config
from masa.evaluation.running.store import EvaluationStore, StoredSample
from masa.preflight import check_verifiers
from masa.problems.problem import Problem
from masa.rewards.failures import VerifierFailedError, describe_failure
from masa.rewards.own_parts import Verifier
from masa.rewards.pool import VerifierPool
from masa.rewards.verdict import Verdict
from masa.tracking import jsonl
from masa.tracking.environment import describe_environment
from masa.tracking.working import working

# Programs have no final answer that could be voted on.
_NO_VOTE = ("code",)


def run_evaluation(
    settings: EvaluationSettings,
    out: str | Path,
    *,
    policy: Policy | None = None,
    verifier: Verifier | None = None,
    compare: Sequence[str | Path] = (),
    rescore: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Evaluate and write ``out``; returns the content of its results.json.

    Samples that lie in ``out`` already are used; results of benchmarks that were evaluated there before are kept.

    Args:
        policy: the model under evaluation, in place of the one that ``settings.config`` names.
        verifier: judges answers in place of a pool of isolated workers.
        compare: directories of other evaluations, to be compared problem by problem.
        rescore: generate nothing; every sample has to be there.

    Raises:
        ConfigError: the directory holds an evaluation with other settings, or lacks samples that ``rescore`` needs;
            a verifier cannot be used here; the model has no room for a prompt and its response, or no embedding for a
            token.
        ProblemDataError: a benchmark's data cannot be read; nothing was generated.
        VerifierFailedError: the verifier raised on every response of a benchmark; all samples are kept.
    """
    console = console or Console()
    store = EvaluationStore(out)
    others = {str(other): _outcomes_in(EvaluationStore(other)) for other in compare}
    problems = {benchmark.name: load_benchmark(benchmark, settings.data) for benchmark in settings.benchmarks}
    if verifier is None:
        check_verifiers([problem for members in problems.values() for problem in members])
    sampled = policy or Policy(settings.config)
    store.check(settings.row())
    if not rescore:
        # Before the settings are written: what is refused here is asked again with others.
        sampled.longest_prompt = _require_fits(settings, problems, sampled, store)
    store.open(settings.row())
    if rescore:
        _refuse_missing(settings, problems, store)
    else:
        _generate(settings, problems, sampled, policy is None, store, console)
    if verifier is not None:
        found = _score_all(settings, problems, store, verifier, console)
    else:
        with VerifierPool.of(settings.config.rewards) as pool:
            found = _score_all(settings, problems, store, pool, console)
    return _write(settings, found, others, store)


def _generate(
    settings: EvaluationSettings,
    problems: Mapping[str, list[Problem]],
    policy: Policy,
    own: bool,
    store: EvaluationStore,
    console: Console,
) -> None:
    try:
        if own and any(_lacks_samples(settings, one.name, problems[one.name], store) for one in settings.benchmarks):
            with working(console, f"Loading the model {settings.config.model.path}"):
                policy.engine(settings.budget)
        with evaluation_progress(console) as progress:
            for benchmark in settings.benchmarks:
                members = problems[benchmark.name]
                total = sum(len(sample_keys(problem, settings.budget)) for problem in members)
                generate_missing(
                    benchmark.name,
                    members,
                    benchmark_config(settings, benchmark),
                    settings.budget,
                    policy,
                    store,
                    report=progress(benchmark.title, total),
                )
        for note in policy.notes:
            console.print(note, highlight=False)
    finally:
        if own:
            policy.close()
    environment = store.path / "environment.json"
    jsonl.write_atomically(environment, jsonl.dump(describe_environment(), indent=2) + b"\n")


def _require_fits(
    settings: EvaluationSettings, problems: Mapping[str, list[Problem]], policy: Policy, store: EvaluationStore
) -> int:
    """Check the prompts of the benchmarks that lack samples, before the model is loaded; the longest, in tokens."""
    lacking = {name: members for name, members in problems.items() if _lacks_samples(settings, name, members, store)}
    if not lacking:
        return 0
    policy.require_software(settings.budget)
    return require_evaluation_fits(settings, lacking, policy.tokenizer, policy.model_config)


def _lacks_samples(
    settings: EvaluationSettings, name: str, problems: Sequence[Problem], store: EvaluationStore
) -> bool:
    return any(missing_chunks(problems, set(store.read_samples(name, problems)), settings.budget))


def _refuse_missing(
    settings: EvaluationSettings, problems: Mapping[str, list[Problem]], store: EvaluationStore
) -> None:
    for name, members in problems.items():
        found = store.read_samples(name, members)
        wanted = [key for problem in members for key in sample_keys(problem, settings.budget)]
        missing = [key for key in wanted if key not in found]
        if missing:
            problem, path, index = missing[0]
            raise ConfigError(
                f"{store.samples(name)}: {len(missing)} of {len(wanted)} samples are missing, the first is "
                f"{path} {index} of {problem!r}; run without --rescore to generate them"
            )


def _score_all(
    settings: EvaluationSettings,
    problems: Mapping[str, list[Problem]],
    store: EvaluationStore,
    verifier: Verifier,
    console: Console,
) -> dict[str, dict[str, Any]]:
    found = {}
    store.error.unlink(missing_ok=True)  # of an earlier scoring
    for benchmark in settings.benchmarks:
        members = problems[benchmark.name]
        with working(console if console.is_terminal else None, f"Verifying the answers of {benchmark.title}"):
            outcomes, statuses = _score(benchmark, settings, members, store, verifier, console)
        found[benchmark.name] = benchmark_results(
            benchmark,
            outcomes,
            thresholds=settings.thresholds,
            ks=settings.ks,
            resamples=settings.resamples,
            verifier=statuses,
            votes=not any(problem.verifier in _NO_VOTE for problem in members),
        )
        accuracy = found[benchmark.name]["metrics"]["pass@1"]["value"]
        console.print(f"{benchmark.title}: pass@1 {100 * accuracy:.1f} over {len(outcomes)} problems")
    return found


def _score(
    benchmark: Benchmark,
    settings: EvaluationSettings,
    problems: list[Problem],
    store: EvaluationStore,
    verifier: Verifier,
    console: Console,
) -> tuple[list[Outcome], dict[str, int]]:
    """Score one benchmark's samples and write its details.

    Raises:
        VerifierFailedError: the verifier raised on every response.
    """
    samples = store.read_samples(benchmark.name, problems)
    groups: dict[str, list[list[StoredSample]]] = {"solution": [], "meta": []}
    for problem in problems:
        own = [samples[key] for key in sample_keys(problem, settings.budget)]
        for path, members in groups.items():
            members.append([sample for sample in own if sample.path == path])
    config = benchmark_config(settings, benchmark)
    outcomes, verdicts = score(
        problems,
        groups["solution"],
        groups["meta"],
        verifier,
        config,
        max_length=config.rollout.max_solution_tokens,
    )
    _require_verdicts(benchmark, problems, verdicts, store, console)
    store.write_details(
        benchmark.name,
        (
            {
                **outcome.row(),
                "statement": problem.statement,
                "answer": problem.answer,
                "verifier": problem.verifier,
                "status": [verdict.status for verdict in own],
            }
            for problem, outcome, own in zip(problems, outcomes, verdicts, strict=True)
        ),
    )
    return outcomes, dict(Counter(verdict.status for own in verdicts for verdict in own))


def _require_verdicts(
    benchmark: Benchmark,
    problems: Sequence[Problem],
    verdicts: Sequence[Sequence[Verdict]],
    store: EvaluationStore,
    console: Console,
) -> None:
    """Show the first error of a verifier, and keep it with its traceback.

    Raises:
        VerifierFailedError: every response of the benchmark has one.
    """
    failed = [(problem, one) for problem, own in zip(problems, verdicts, strict=True) for one in own if one.failed]
    if not failed:
        return
    failure = describe_failure(*failed[0])
    store.write_first_error(f"{failure.line}\n\n{failure.trace}")
    total = sum(map(len, verdicts))
    if len(failed) == total:
        console.print(failure.trace.rstrip(), highlight=False, markup=False, soft_wrap=True)
        raise VerifierFailedError(
            f"every response of {benchmark.title} ({total}) was left without a verdict. {failure.line}. The samples "
            "are kept; the same command scores them again"
        )
    console.print(
        f"{benchmark.title}: {len(failed)} of {total} responses were left without a verdict and count as incorrect. "
        f"{failure.line}. The traceback is in {store.error}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _write(
    settings: EvaluationSettings,
    found: dict[str, dict[str, Any]],
    others: Mapping[str, dict[str, list[Outcome]]],
    store: EvaluationStore,
) -> dict[str, Any]:
    earlier = jsonl.read_object(store.results)["benchmarks"] if store.results.exists() else {}
    # In the order of declaration, whatever the order in which benchmarks were asked for; those of the user's own last.
    every = {**earlier, **found}
    merged = {name: every[name] for name in dict.fromkeys([*BENCHMARKS, *every]) if name in every}
    ours = {name: store.read_outcomes(name) for name in merged}
    comparisons = {name: comparison(ours, theirs, settings.resamples) for name, theirs in others.items()}
    row = {**settings.row(), "benchmarks": list(merged)}
    results: dict[str, Any] = jsonl.plain(all_results(row, merged, comparisons))
    jsonl.write_atomically(store.results, jsonl.dump(results, indent=2) + b"\n")
    jsonl.write_atomically(store.table, results_markdown(results).encode())
    return results


def _outcomes_in(store: EvaluationStore) -> dict[str, list[Outcome]]:
    """All outcomes of another evaluation.

    Raises:
        ConfigError: there is none.
    """
    if not store.results.exists():
        raise ConfigError(f"--compare: {store.path} holds no evaluation: there is no {store.results.name}")
    return {name: store.read_outcomes(name) for name in jsonl.read_object(store.results)["benchmarks"]}
