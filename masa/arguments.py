"""Types of command-line arguments."""

from __future__ import annotations

import argparse


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
