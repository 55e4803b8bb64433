"""The written reference says what the schema says."""

from pathlib import Path

from masa.config.reference import render_reference


def test_the_written_reference_is_up_to_date() -> None:
    written = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == render_reference(), "run: python -m masa.config.reference > docs/configuration.md"
