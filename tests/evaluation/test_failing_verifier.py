"""Evaluations whose verifier raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from masa import evaluate
from masa.rewards import Verdict
from masa.rewards.pool import VerifierPool

_ERROR = Verdict(False, "error", message="KeyError: 'gold'", trace="Traceback ...\nKeyError: 'gold'\n")
_RIGHT = Verdict(True, "correct")


def _evaluate(monkeypatch: pytest.MonkeyPatch, out: Path, *, failing: int) -> int:
    """``python -m masa.evaluate`` where the verifier raises on the first ``failing`` responses."""

    def verify(self: VerifierPool, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        return [_ERROR if number < failing else _RIGHT for number, _ in enumerate(items)]

    monkeypatch.setattr(VerifierPool, "verify", verify)
    few = ["--limit", "2", "--samples", "2", "--metas", "0", "--max-tokens", "8", "--resamples", "20"]
    return evaluate.main(["--model", "embedded", "--benchmarks", "embedded", "--out", str(out), *few])


def test_a_verifier_that_raises_on_everything_is_no_accuracy_of_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _evaluate(monkeypatch, out, failing=4) == 1
    shown = capsys.readouterr()
    assert "every response of" in shown.err
    assert "(4) was left without a verdict" in shown.err
    assert "KeyError: 'gold'" in shown.err
    assert "Traceback ..." in shown.out
    assert "Traceback ..." in (out / "first_error.txt").read_text()
    assert not (out / "results.json").exists()
    # The samples are kept, and a verifier that works scores them.
    assert _evaluate(monkeypatch, out, failing=0) == 0
    assert not (out / "first_error.txt").exists()


def test_errors_for_some_responses_are_named_and_the_evaluation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _evaluate(monkeypatch, out, failing=1) == 0
    shown = capsys.readouterr().out
    assert "1 of 4 responses were left without a verdict and count as incorrect" in shown
    assert "pass@1 75.0" in shown
    assert "KeyError: 'gold'" in (out / "first_error.txt").read_text()
