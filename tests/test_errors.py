"""What of an error stands inside another message."""

from __future__ import annotations

import pytest

from masa.errors import brief, first_line


@pytest.mark.parametrize(
    ("error", "line", "named"),
    [
        (ValueError("a\nb"), "a", "ValueError: a"),
        (ValueError("\n  a  \nb"), "a", "ValueError: a"),
        (KeyError(), "KeyError", "KeyError"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (RuntimeError("x" * 500), "x" * 300, "RuntimeError: " + "x" * 300),
    ],
)
def test_the_first_line_of_an_error_stands_for_it_and_its_type_where_it_has_none(
    error: BaseException, line: str, named: str
) -> None:
    assert (first_line(error), brief(error)) == (line, named)
