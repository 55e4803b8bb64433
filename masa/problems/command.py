"""``python -m masa.problems SOURCE``: what a run would read in a file, before there is a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from masa.arguments import exit_code, not_negative, positive

if TYPE_CHECKING:
    from masa.config import Config
    from masa.problems.report import LoadedProblems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: the preview was shown, whatever it says of rows and gold answers; 2: a source or an option that cannot be used;
    130: interrupted (Ctrl-C).
    """
    options = _parser().parse_intermixed_args(arguments)
    from masa.config import ConfigError
    from masa.problems.errors import ProblemDataError

    return exit_code(lambda: _preview(options), bad_input=(ConfigError, ProblemDataError), interrupted="")


def _preview(options: argparse.Namespace) -> None:
    from masa.config import load_config
    from masa.problems.preview import show_preview

    config = load_config(options.config, options.overrides)
    loaded = _load(options, config)
    # Without a configuration or a model, no tokenizer is known: lengths are counted in characters.
    with_tokens = options.config is not None or "path" in config.model.model_fields_set
    show_preview(
        Console(soft_wrap=True, highlight=False),
        config,
        loaded,
        shown=options.show,
        verified=options.verify,
        with_tokens=with_tokens,
        planned=options.config is not None,
    )


def _load(options: argparse.Namespace, config: Config) -> LoadedProblems:
    """The problems; bad rows are left out, since a preview shows them.

    Raises:
        ProblemDataError: as `load_problems`.
    """
    from masa.problems.loading import load_problems

    section = config.problems
    return load_problems(
        options.source,
        split=options.split or section.train_split,
        columns=section.columns or None,
        verifier=section.verifier,
        on_bad_row="skip",
        limit=section.limit,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.problems",
        description="What a run would read in a file: rows, the first problems and their prompts, lengths, and whether "
        "the verifiers take the gold answers. Nothing is trained and no model is loaded.",
    )
    parser.add_argument("source", metavar="SOURCE", help="problems, named like problems.train")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="changes to the configuration, e.g. problems.columns.statement=query or model.path=FOLDER",
    )
    parser.add_argument(
        "--config",
        help="YAML file of a run: its tokenizer, templates, columns and verifier are used, and steps, tokens and time "
        "of the run are shown",
    )
    parser.add_argument("--split", help="split of a hub data set or of a folder of save_to_disk (default: train)")
    parser.add_argument("--show", type=positive, default=3, help="problems to show (default 3)")
    parser.add_argument(
        "--verify",
        type=not_negative,
        default=8,
        help="gold answers to verify, of each verifier (default 8); 0: none",
    )
    return parser
