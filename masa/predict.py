"""``python -m masa.predict --model PATH_OR_NAME PROBLEM ...``: what a policy predicts before it solves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from masa.arguments import exit_code, positive
from masa.callable_modules import make_callable

if TYPE_CHECKING:
    import pandas

    from masa.answering import Asked
    from masa.config import Config
    from masa.config.changes import Changes

_METAS = 8


def predict(
    problems: Asked | Sequence[Asked],
    model: str | Path | None = None,
    *,
    run: str | Path | None = None,
    step: int | None = None,
    config: Config | str | Path | None = None,
    overrides: Changes = (),
    num_metas: int = _METAS,
    temperature: float | None = None,
    console: Console | None = None,
) -> pandas.DataFrame:
    """What a policy predicts of problems before solving them: one row a meta-prediction.

    Args:
        problems: one problem or several: texts, `Problem` objects, or mappings like the rows of a problem file.
        model: a folder with a model, a hub id, or ``embedded``.
        run: in place of ``model``, a run directory: its configuration and its newest checkpoint.
        step: with ``run``, another step's checkpoint; 0: the model before training.
        config: a configuration for model and prompts.
        overrides: changes of it.
        num_metas: meta-predictions a problem.
        temperature: None: that of training; 0: greedy.
        console: where it is shown that a model is loaded; None: nowhere.

    The model is loaded on the GPU where there is one, like that of an evaluation.

    Returns: the columns of `MASATrainer.predict`.

    Raises:
        ConfigError: a mistake in what was asked for.
        TypeError, ValueError, ProblemDataError: something that is no problem.
    """
    from masa.answering import open_answering
    from masa.evaluation.running.model_choice import ModelChoice, chosen_model
    from masa.evaluation.running.placing import sampling_device
    from masa.model.loading import load_policy, load_tokenizer
    from masa.preflight import make_templates
    from masa.rollout.requests import RequestBuilder
    from masa.software import require_software
    from masa.tracking.working import working

    choice = ModelChoice(None if model is None else str(model), run, step, config, overrides)
    chosen, _ = chosen_model(choice)
    builder = RequestBuilder(chosen, make_templates(chosen), load_tokenizer(chosen.model))
    require_software(chosen)
    with ExitStack() as stack:
        with working(console, f"Loading the model {chosen.model.path}"):
            policy = load_policy(chosen.model, sampling_device(chosen.rollout))
            answering = stack.enter_context(open_answering(chosen, builder, policy))
        return answering.predict(problems, num_metas, temperature)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a mistake in what was asked for, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    from masa.config import ConfigError
    from masa.problems.errors import ProblemDataError

    return exit_code(
        lambda: _predict(options),
        bad_input=(ConfigError, ProblemDataError),
        interrupted=". Nothing was saved; run the same command again",
    )


def _predict(options: argparse.Namespace) -> None:
    found = predict(
        _problems(options),
        options.model,
        run=options.run,
        step=options.step,
        config=options.config,
        overrides=options.set,
        num_metas=options.metas,
        temperature=options.temperature,
        # Beside the table, which may go into a file.
        console=Console(stderr=True),
    )
    if options.out:
        _write(found, Path(options.out))
    console = Console()
    console.print(_table(found))
    if options.out:
        console.print(f"Predictions: {options.out}", highlight=False, soft_wrap=True)


def _problems(options: argparse.Namespace) -> list[Any]:
    from masa.config import ConfigError
    from masa.problems.loading import load_problems

    if bool(options.problem) == bool(options.problems):
        raise ConfigError("problems: give texts, or a file with --problems, and one of them alone")
    return options.problem or load_problems(options.problems, limit=options.limit).problems


def _write(found: pandas.DataFrame, path: Path) -> None:
    """One JSON object a line, or comma-separated values where the name ends so.

    Raises:
        ConfigError: the file cannot be written.
    """
    from masa.config import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            found.to_csv(path, index=False)
        else:
            found.to_json(path, orient="records", lines=True, force_ascii=False)
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error.strerror}") from error


def _table(found: pandas.DataFrame) -> Any:
    """One row a problem: the means of what was read in its meta-predictions."""
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="Means over the meta-predictions that hold a value", caption_justify="left")
    for name in ("problem", "metas read", "pass rate", "length, tokens", "notions"):
        table.add_column(name)
    for problem, rows in found.groupby("problem", sort=False):
        notions = list(dict.fromkeys(one for given in rows["notions"].dropna() for one in given))
        table.add_row(
            Text(str(problem)),
            f"{rows['parsed'].sum()} of {len(rows)}",
            _mean(rows["pass_rate"], ".2f"),
            _mean(rows["length"], ".0f"),
            Text(", ".join(notions[:6]) or "none"),
        )
    return table


def _mean(values: pandas.Series, form: str) -> str:
    known = values.dropna()
    return format(float(known.mean()), form) if len(known) else "none"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.predict",
        description="What a policy predicts of problems before solving them: pass rate, length and notions.",
    )
    parser.add_argument("problem", nargs="*", help="a problem's text")
    parser.add_argument("--problems", metavar="SOURCE", help="problems in place of texts, named like problems.train")
    parser.add_argument("--limit", type=positive, help="with --problems: use only the first N")
    parser.add_argument("--model", help="a folder with a model, a hub id, or `embedded`")
    parser.add_argument("--run", metavar="RUN_DIR", help="a run: its configuration and its newest checkpoint")
    parser.add_argument("--step", type=int, help="with --run: this step's checkpoint; 0: the model before training")
    parser.add_argument("--config", help="YAML file: model and prompts as a run's configuration has them")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="a change to the configuration"
    )
    parser.add_argument(
        "--metas", type=positive, default=_METAS, help=f"meta-predictions of each problem (default {_METAS})"
    )
    parser.add_argument("--temperature", type=float, help="default: that of training; 0: greedy")
    parser.add_argument("--out", metavar="FILE", help="write all predictions: .csv, or one JSON object a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
make_callable(__name__, predict)
