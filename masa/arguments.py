"""What command lines share: exit codes, types of arguments, and how a configuration is named."""

from __future__ import annotations

import argparse

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def positive(text: str) -> int:
    """A whole number, at least 1.

    Raises:
        ArgumentTypeError: a smaller one.
        ValueError: no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text}, at least 1 needed")
    return number


def add_configuration(parser: argparse.ArgumentParser, help: str) -> None:
    """The options ``--config FILE`` and ``section.key=value ...`` of a command that reads a run's configuration."""
    parser.add_argument("--config", required=True, help=help)
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration, e.g. run.seed=1"
    )
