"""The table of models: what is measured comes out, whatever a family's process does."""

from __future__ import annotations

import json
from pathlib import Path

import model_table
import pytest
from model_table import measured, read_results, table

FOUND = {"python": "3.11", "transformers": "5"}


def _line(family: str, **values: object) -> str:
    return json.dumps({"family": family, "columns": list(model_table.COLUMNS), "versions": FOUND, **values})


def test_a_process_that_dies_leaves_a_line_that_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(model_table, "_measure", lambda family, columns, sender: os._exit(7))
    assert measured("llama", ("padded",), 30.0, "fork")["failure"] == "its process ended with 7"


def test_a_process_that_hangs_is_ended_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(model_table, "_measure", lambda family, columns, sender: time.sleep(60))
    line = measured("llama", ("padded",), 0.2, "fork")
    assert line["failure"] == "no result within 0.2 s"
    assert line["seconds"] < 30


def test_results_of_other_versions_are_measured_again_and_columns_of_a_family_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    old = json.dumps({"family": "gemma2", "columns": [], "versions": {"transformers": "4"}, "cells": {}})
    vllm = _line("llama", cells={"vllm": "2e-06"})
    path.write_text("\n".join([old, _line("llama", cells={"padded": "1e-06"}), vllm]) + "\n")
    lines = read_results(path, FOUND)
    assert set(lines) == {"llama"}
    assert lines["llama"]["cells"] == {"padded": "1e-06", "vllm": "2e-06"}


def test_the_table_names_what_is_wrong_what_was_not_run_and_what_could_not_be_made(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    cells = {"padded": "1e-06", "packed": "WRONG: 2", "engine": "refused: rollout.engine: no decoding"}
    path.write_text(_line("llama", cells=cells) + "\n" + _line("blt", failure="ValueError: too large") + "\n")
    text = table(read_results(path, FOUND), ["blt", "llama", "zaya"], FOUND)
    assert "Wrong cells: `llama` (packed)." in text
    assert "| `llama` | 1e-06 | WRONG: 2 | not run | refused [1] | not run | not run | not run |" in text
    assert "1. rollout.engine: no decoding" in text
    assert "| `blt` | ValueError: too large |" in text
    assert "| `zaya` | not measured |" in text
