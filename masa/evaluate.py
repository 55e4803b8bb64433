"""``python -m masa.evaluate --model PATH_OR_NAME --benchmarks aime24,math500 --out DIR``; ``--help`` tells the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from masa.arguments import positive

if TYPE_CHECKING:
    from masa.config import Config
    from masa.evaluation.settings import EvaluationSettings

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a mistake in what was asked for, 130 after Ctrl-C."""
    options = _parser().parse_intermixed_args(arguments)
    from masa.config import ConfigError
    from masa.problems.errors import ProblemDataError

    console = Console()
    try:
        if options.list:
            from masa.evaluation.listing import benchmark_table

            console.print(benchmark_table())
            return 0
        return _evaluate(options, console)
    except (ConfigError, ProblemDataError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(
            "masa: interrupted. Samples that were finished are kept; the same command goes on from there",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    from masa.config import ConfigError
    from masa.evaluation.runner import run_evaluation
    from masa.evaluation.settings import settings_from_row
    from masa.evaluation.store import EvaluationStore

    if options.rescore and options.out and not options.benchmarks:
        settings = settings_from_row(EvaluationStore(options.out).read_settings())
        out = Path(options.out)
    else:
        config, inside_run = _model_of(options)
        folder = options.out or inside_run
        if folder is None:
            raise ConfigError("--out: a folder for the results is needed")
        if not options.benchmarks:
            raise ConfigError("--benchmarks: names or suites are needed; --list shows them")
        out = Path(folder)
        settings = _settings(options, config)
    run_evaluation(settings, out, compare=options.compare, rescore=options.rescore, console=console)
    console.print(f"Results: {out / 'results.md'}", highlight=False, soft_wrap=True)
    return 0


def _model_of(options: argparse.Namespace) -> tuple[Config, str | None]:
    """The configuration (model, prompts, rewards) and, for a checkpoint of a run, the folder its results belong in."""
    from masa.config import ConfigError, load_config

    given = [name for name in ("model", "run") if getattr(options, name)]
    if len(given) == 2:
        raise ConfigError("--model and --run: each names a model, one of them is allowed")
    overrides = list(options.overrides)
    if options.engine:
        overrides.append(f"rollout.engine={options.engine}")
    if options.run:
        return _checkpoint_of(options, overrides)
    if options.model:
        overrides.append(f"model.path={options.model}")
    elif not options.config:
        raise ConfigError("--model: a folder, a hub id or `embedded` is needed; --run and --config name a model, too")
    config = load_config(options.config, overrides)
    # Without --model the configuration says all of the model, its type included.
    return _as_evaluated(config, overrides) if options.model else config, None


def _as_evaluated(config: Config, overrides: Sequence[str]) -> Config:
    """With the model as its checkpoint was saved, unless ``model.dtype=...`` was given."""
    from masa.evaluation.checkpoint_model import evaluated_model

    given = any(override.startswith("model.dtype=") for override in overrides)
    return config.model_copy(update={"model": evaluated_model(config.model, dtype_is_given=given)})


def _checkpoint_of(options: argparse.Namespace, overrides: list[str]) -> tuple[Config, str]:
    from masa.checkpoint import list_checkpoints
    from masa.config import ConfigError, load_config
    from masa.tracking.run_directory import RunDirectory

    directory = RunDirectory(options.run)
    config = load_config(options.config or directory.config, overrides)
    found = dict(list_checkpoints(directory.checkpoints))
    step = max(found, default=0) if options.step is None else options.step
    if step and step not in found:
        raise ConfigError(f"--step: found {step}, the checkpoints of {directory.path} are {sorted(found) or 'none'}")
    if step:
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": str(found[step])})})
        config = _as_evaluated(config, overrides)
    return config, str(directory.path / "evaluation" / f"step-{step}")


def _settings(options: argparse.Namespace, config: Config) -> EvaluationSettings:
    from masa.config import ConfigError
    from masa.evaluation.benchmarks import resolve_benchmarks
    from masa.evaluation.loading import DataChoice, choose_files
    from masa.evaluation.meta_awareness import ControlThresholds
    from masa.evaluation.settings import Budget, EvaluationSettings

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
        benchmarks=tuple(resolve_benchmarks(options.benchmarks)),
        budget=budget,
        data=DataChoice(
            files=choose_files(options.data),
            folder=Path(options.data_dir).expanduser() if options.data_dir else None,
            options=options.options,
            options_seed=options.options_seed,
            limit=options.limit,
        ),
        thresholds=thresholds,
        ks=options.pass_at,
        resamples=options.resamples,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.evaluate",
        description="Evaluate a model: pass@k, majority vote, lengths and meta-awareness, with 95 %% intervals. "
        "An evaluation that was stopped goes on where it was when the same command is given again.",
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
    what.add_argument("--list", action="store_true", help="show the declared benchmarks and suites, and leave")
    what.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="a local file of a benchmark")
    what.add_argument("--data-dir", metavar="DIR", help="folder with local files, named like the benchmarks")
    what.add_argument("--options", choices=("source", "shuffled"), help="order of multiple-choice options")
    what.add_argument("--options-seed", type=int, default=0, help="seed of shuffled options (default 0)")
    what.add_argument("--limit", type=positive, help="the first so many problems of each benchmark")

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--samples", type=int, help="solutions a problem (default 32)")
    sampling.add_argument("--metas", type=int, help="meta-predictions a problem (default 8); 0: none")
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
    scoring.add_argument("--cutoff-factor", type=float, help="cutoff: times the predicted length")
    scoring.add_argument("--cutoff-aggregate", choices=("mean", "median", "max"), help="of a problem's predictions")
    scoring.add_argument("--cutoff-floor", type=int, help="cutoff: tokens at the earliest")
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
