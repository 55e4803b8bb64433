"""``python -m masa.evaluate --model PATH_OR_NAME --benchmarks aime24,math500 --out DIR``; ``--help`` tells the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from masa.arguments import exit_code, positive
from masa.callable_modules import make_callable

if TYPE_CHECKING:
    from masa.config import Config
    from masa.config.changes import Changes
    from masa.evaluation.benchmarks.own import OwnBenchmarks
    from masa.evaluation.running.settings import EvaluationSettings


def evaluate(
    model: str | Path | None = None,
    benchmarks: str | Sequence[str] | None = None,
    *,
    run: str | Path | None = None,
    step: int | None = None,
    config: Config | str | Path | None = None,
    overrides: Changes = (),
    out: str | Path | None = None,
    compare: Sequence[str | Path] = (),
    data: Mapping[str, str | Path] | None = None,
    problems: Any = None,
    declarations: str | Path | None = None,
    rescore: bool = False,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a model on benchmarks: pass@k, majority vote, lengths and meta-awareness, with 95 % intervals.

    An evaluation that was interrupted is resumed by the same call.

    Args:
        model: a folder with a model, a hub id, or ``embedded``.
        benchmarks: names and suites; ``python -m masa.evaluate --list`` shows them.
        run: in place of ``model``, a run directory: its configuration and its newest checkpoint.
        step: with ``run``, another step's checkpoint; 0: the model before training.
        config: a configuration for model, prompts and verifier.
        overrides: changes of it.
        out: folder for samples and results; None with ``run``: in the run directory.
        compare: folders of other evaluations, compared problem by problem.
        data: local files of benchmarks, by name.
        problems: problems of your own as a benchmark: anything that ``problems.train`` names, ``NAME=SOURCE``, rows
            (mappings, `Problem` objects, a DataFrame, a Dataset), a list of sources, or a mapping of names to these.
        declarations: a YAML file with further benchmarks, whose names ``benchmarks`` may hold.
        rescore: score the samples in ``out`` again and generate none.
        console: where progress is shown.
        **options: those of the command line, with underscores: ``samples=32``, ``metas=8``, ``temperature=0.6``,
            ``max_tokens=16384``, ``limit=100``, ``engine="vllm"``, ...

    Returns: the content of results.json; ``["benchmarks"][NAME]["metrics"]["pass@1"]`` has value, low and high.

    Raises:
        ConfigError: a mistake in what was asked for.
        ProblemDataError: data of a benchmark that cannot be read.
        VerifierFailedError: the verifier raised on every response of a benchmark.
        TypeError: an option that the command line does not have.
    """
    from masa.evaluation.running.model_choice import texts_of

    asked = _parser().parse_args([])
    known = {name for name in vars(asked) if name not in ("list", "overrides")}
    for name in options:
        if name not in known:
            raise TypeError(f"evaluate: found {name!r}, allowed: {', '.join(sorted(known))}")
    vars(asked).update(
        options,
        model=None if model is None else str(model),
        run=run,
        step=step,
        config=config,
        overrides=texts_of(overrides),
        benchmarks=benchmarks,
        out=out,
        compare=list(compare),
        data=[f"{name}={path}" for name, path in (data or {}).items()],
        problems=problems,
        declarations=declarations,
        rescore=rescore,
    )
    return _evaluate(asked, console or Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 1: the verifier failed on every response; 2: a mistake in what was asked for; 130: Ctrl-C.
    """
    options = _parser().parse_intermixed_args(arguments)
    from masa.config import ConfigError
    from masa.problems.errors import ProblemDataError
    from masa.rewards.failures import VerifierFailedError

    console = Console()
    return exit_code(
        lambda: _list(options, console) if options.list else _evaluate(options, console),
        failure=(VerifierFailedError,),
        bad_input=(ConfigError, ProblemDataError),
        interrupted=". Finished samples are kept; the same command resumes the evaluation",
    )


def _list(options: argparse.Namespace, console: Console) -> None:
    from masa.config import load_config
    from masa.evaluation.benchmarks.listing import print_benchmarks

    print_benchmarks(console, _own_benchmarks(options, load_config(options.config, options.overrides)))


def _evaluate(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from masa.config import ConfigError
    from masa.evaluation.results.terminal import print_results
    from masa.evaluation.running.model_choice import ModelChoice, chosen_model
    from masa.evaluation.running.runner import run_evaluation
    from masa.evaluation.running.settings import settings_from_row
    from masa.evaluation.running.store import EvaluationStore

    named = options.benchmarks or options.problems is not None
    if options.rescore and options.out and not named:
        settings = settings_from_row(EvaluationStore(options.out).read_settings())
        out = Path(options.out)
    else:
        overrides = [*options.overrides, *([f"rollout.engine={options.engine}"] if options.engine else [])]
        config, inside_run = chosen_model(
            ModelChoice(options.model, options.run, options.step, options.config, overrides)
        )
        folder = options.out or inside_run
        if folder is None:
            raise ConfigError("--out: a folder for the results is needed")
        if not named:
            raise ConfigError("--benchmarks: names or suites are needed (--list shows them), or --problems")
        out = Path(folder)
        settings = _settings(options, config)
    results = run_evaluation(settings, out, compare=options.compare, rescore=options.rescore, console=console)
    print_results(results, console)
    console.print(f"Results: {out / 'results.md'}", highlight=False, soft_wrap=True)
    return results


def _settings(options: argparse.Namespace, config: Config) -> EvaluationSettings:
    from masa.config import ConfigError
    from masa.evaluation.benchmarks import resolve_benchmarks
    from masa.evaluation.benchmarks.loading import DataChoice, choose_files
    from masa.evaluation.measures.meta_awareness import ControlThresholds
    from masa.evaluation.running.settings import Budget, EvaluationSettings

    own = _own_benchmarks(options, config)
    benchmarks = resolve_benchmarks(options.benchmarks, own.benchmarks, own.suites) if options.benchmarks else []
    asked_by_source = [one for name, one in own.benchmarks.items() if name in own.asked and one not in benchmarks]
    budget = Budget()
    asked = {one.name: getattr(options, one.name) for one in fields(Budget)}
    budget = replace(budget, **{name: value for name, value in asked.items() if value is not None})
    limits = {one.name: getattr(options, one.name) for one in fields(ControlThresholds) if hasattr(options, one.name)}
    try:
        thresholds = replace(
            ControlThresholds.of(config.controls),
            **{name: value for name, value in limits.items() if value is not None},
        )
    except ValueError as error:
        raise ConfigError(f"thresholds: {error}") from None
    return EvaluationSettings(
        config=config,
        benchmarks=(*benchmarks, *asked_by_source),
        budget=budget,
        data=DataChoice(
            files=choose_files(options.data, own.benchmarks),
            folder=Path(options.data_dir).expanduser() if options.data_dir else None,
            options=options.options,
            options_seed=options.options_seed,
            limit=options.limit,
            rows=own.rows,
        ),
        thresholds=thresholds,
        ks=options.pass_at,
        resamples=options.resamples,
        suites=own.suites,
    )


def _own_benchmarks(options: argparse.Namespace, config: Config) -> OwnBenchmarks:
    """The benchmarks of ``--declarations`` and of ``--problems``."""
    from masa.evaluation.benchmarks.own import OwnBenchmarks, benchmarks_of_problems, read_declarations, together

    own = OwnBenchmarks() if options.declarations is None else read_declarations(options.declarations)
    if options.problems is None:
        return own
    section = config.problems
    return together(
        own,
        benchmarks_of_problems(
            options.problems, split=section.eval_split, columns=section.columns, verifier=section.verifier
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.evaluate",
        description="Evaluate a model: pass@k, majority vote, lengths and meta-awareness, with 95 %% intervals. "
        "An evaluation that was interrupted is resumed by the same command.",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", help="a folder with a model, a hub id, or `embedded`")
    model.add_argument("--config", help="YAML file: model, prompts and verifier as a run's configuration has them")
    model.add_argument("--run", metavar="RUN_DIR", help="a run: its configuration and its newest checkpoint")
    model.add_argument("--step", type=int, help="with --run: this step's checkpoint; 0: the model before training")
    model.add_argument("--engine", help="rollout engine (rollout.engine of the configuration)")
    model.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the configuration")

    what = parser.add_argument_group("benchmarks")
    what.add_argument("--benchmarks", metavar="A,B", help="names and suites, separated by commas")
    what.add_argument(
        "--problems",
        action="append",
        metavar="[NAME=]SOURCE",
        help="problems of your own as a benchmark, named like problems.train; columns, verifier and split are those of "
        "the configuration (problems.columns, problems.verifier, problems.eval_split); may be given several times",
    )
    what.add_argument(
        "--declarations", metavar="FILE", help="YAML file with benchmarks of your own, for --benchmarks to name"
    )
    what.add_argument("--list", action="store_true", help="list the benchmarks and suites, and exit")
    what.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="a local file of a benchmark")
    what.add_argument("--data-dir", metavar="DIR", help="folder with local files, named like the benchmarks")
    what.add_argument("--options", choices=("source", "shuffled"), help="order of multiple-choice options")
    what.add_argument("--options-seed", type=int, default=0, help="seed of shuffled options (default 0)")
    what.add_argument("--limit", type=positive, help="use only the first N problems of each benchmark")

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--samples", type=int, help="solutions of each problem (default 32)")
    sampling.add_argument("--metas", type=int, help="meta-predictions of each problem (default 8); 0: none")
    sampling.add_argument("--temperature", type=float, help="default 0.6; 0: greedy")
    sampling.add_argument("--top-p", type=float, help="default 1.0")
    sampling.add_argument("--top-k", type=int, help="default 0: none")
    sampling.add_argument("--max-tokens", type=int, help="response limit of a solution (default 16384)")
    sampling.add_argument("--max-meta-tokens", type=int, help="response limit of a meta-prediction (default 2048)")
    sampling.add_argument("--batch-size", type=int, help="sequences generated, and written, at a time (default 256)")
    sampling.add_argument("--seed", type=int, help="default 0")

    scoring = parser.add_argument_group("scoring", "thresholds not given are those of the configuration's controls")
    scoring.add_argument("--pass-at", type=_numbers, metavar="K,K", help="k of pass@k (default: powers of two)")
    scoring.add_argument("--resamples", type=positive, default=9999, help="bootstrap resamples (default 9999)")
    scoring.add_argument("--agreement", type=float, help="gate: standard deviation of predictions below")
    scoring.add_argument("--trivial", type=float, help="gate: mean prediction at least")
    scoring.add_argument("--unsolvable", type=float, help="gate: mean prediction at most")
    scoring.add_argument("--min-parsed", type=float, help="gate: share of predictions that must be readable")
    scoring.add_argument("--cutoff-factor", type=float, help="cutoff: budget as a multiple of the predicted length")
    scoring.add_argument("--cutoff-aggregate", choices=("mean", "median", "max"), help="of a problem's predictions")
    scoring.add_argument("--cutoff-floor", type=int, help="cutoff: no budget is below this many tokens")
    scoring.add_argument("--compare", action="append", default=[], metavar="DIR", help="another evaluation's folder")
    scoring.add_argument(
        "--rescore", action="store_true", help="score the samples in --out again and generate none; needs no model"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for samples and results (default with --run: in the run)")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
make_callable(__name__, evaluate)
