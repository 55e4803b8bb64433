"""What command lines share: exit codes, types of arguments, and how a configuration is named."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def positive(text: str) -> int:
    """A whole number, at least 1.

    Raises:
        ArgumentTypeError: a smaller one.
        ValueError: no whole number.
    """
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number, at least 0.

    Raises: as `positive`.
    """
    return _at_least(0, text)


def _at_least(smallest: int, text: str) -> int:
    number = int(text)
    if number < smallest:
        raise argparse.ArgumentTypeError(f"found {text}, at least {smallest} needed")
    return number


def add_configuration(parser: argparse.ArgumentParser, help: str) -> None:
    """The options ``--config FILE`` and ``section.key=value ...`` of a command that reads a run's configuration."""
    parser.add_argument("--config", required=True, help=help)
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration, e.g. run.seed=1"
    )


def exit_code(
    work: Callable[[], object],
    *,
    bad_input: tuple[type[Exception], ...],
    failure: tuple[type[Exception], ...] = (),
    interrupted: str,
) -> int:
    """Do the work of a command; what is expected to go wrong becomes one line on stderr and an exit code.

    Args:
        bad_input: errors of the user's, exit code 2.
        failure: errors of what was asked of others, exit code 1; looked for first.
        interrupted: what is said after Ctrl-C, behind "interrupted"; exit code 130.
    """
    try:
        work()
    except failure as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except bad_input as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"masa: interrupted{interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
